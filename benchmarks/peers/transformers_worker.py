"""Llama in Hugging Face Transformers; runs in an environment of its own, see `environments.sh`.

    python -m benchmarks.peers.transformers_worker FOLDER --vocab 259 --width 192 --layers 2

Writes a model of random weights into a folder, with a tokenizer, so that `transformers serve` can
serve it; then does jobs, see `benchmarks.peers.worker`.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.peers.worker import FIRST_CHARACTER, Job, Timing, arguments, serve

# By name, since a type checker in this project's environment would look for them in vain.
torch: Any = import_module("torch")
transformers: Any = import_module("transformers")


@dataclass(frozen=True)
class Settings:
    """What makes `generate` faster or slower."""

    attention: str
    threads: int

    def __str__(self) -> str:
        return f"{self.attention} attention, {self.threads} threads"


def all_settings(_: Job) -> Iterator[Settings]:
    """Everything that is tried for a job."""
    for attention in ("sdpa", "eager"):
        for threads in (1, 2):
            yield Settings(attention, threads)


def run(model: Any, job: Job, settings: Settings) -> Timing:
    """Do a job with the default cache."""
    torch.set_num_threads(settings.threads)
    model.set_attn_implementation(settings.attention)
    ids = torch.randint(model.config.vocab_size, (job.batch, job.prompt))
    moments = []

    def note(*_: Any) -> Any:
        moments.append(time.perf_counter())
        return torch.zeros(job.batch, dtype=torch.bool)

    began = time.perf_counter()
    written = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=job.new,
        stopping_criteria=transformers.StoppingCriteriaList([note]),
    )
    seconds = time.perf_counter() - began
    assert written.shape == (job.batch, job.prompt + job.new)
    return Timing(moments[0] - began, seconds)


def write_tokenizer(folder: Path, vocab_size: int) -> None:
    """Save a tokenizer whose every token is one character."""
    tokenizers: Any = import_module("tokenizers")
    characters = {chr(FIRST_CHARACTER + id): id for id in range(vocab_size)}
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel(characters, unk_token=chr(FIRST_CHARACTER))
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex("."), "isolated")
    tokenizer.decoder = tokenizers.decoders.Fuse()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


def main() -> None:
    """Make the model, then do jobs until standard input ends."""
    options = arguments(__doc__)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=options.vocab,
        hidden_size=options.width,
        intermediate_size=4 * options.width,
        num_hidden_layers=options.layers,
        num_attention_heads=options.width // 64,
        max_position_embeddings=8192,
        bos_token_id=None,
        eos_token_id=None,  # it never ends by itself
    )
    model = transformers.LlamaForCausalLM(config).float().eval()
    model.save_pretrained(options.folder)
    write_tokenizer(options.folder, options.vocab)
    about = {
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "parameters": sum(tensor.numel() for tensor in model.parameters()),
    }
    serve(about, all_settings, lambda job, settings: run(model, job, settings))


if __name__ == "__main__":
    main()
