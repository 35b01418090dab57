"""The peer of `benchmarks.peers`; runs in an environment of its own, without this project's.

    peer/bin/python benchmarks/peer_transformers.py FOLDER --vocab 259 --hidden 192 --layers 2

Writes a Llama of random weights into a folder, with a tokenizer whose every token is one character,
so that `transformers serve` can serve it. Prints its versions as a line of JSON, then answers lines
`{"batch": …, "prompt": …, "new": …}` on standard input with the seconds that `generate` took.
"""

import argparse
import json
import sys
import time
from importlib import import_module
from pathlib import Path

FIRST_CHARACTER = 0x4E00  # code point of token 0's character; the others follow in order


def main() -> None:
    """Make the model, then time what is asked for until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    for name in ("vocab", "hidden", "layers"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    # By name, since a type checker in this project's environment would look for them in vain.
    torch, transformers = import_module("torch"), import_module("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=options.vocab,
        hidden_size=options.hidden,
        intermediate_size=4 * options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=options.hidden // 64,
        bos_token_id=None,
        eos_token_id=None,  # it never ends by itself
    )
    model = transformers.LlamaForCausalLM(config).float().eval()
    model.save_pretrained(options.folder)
    write_tokenizer(options.folder, options.vocab)
    about = {
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "parameters": sum(tensor.numel() for tensor in model.parameters()),
    }
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        ids = torch.randint(options.vocab, (job["batch"], job["prompt"]))
        began = time.perf_counter()
        written = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=job["new"],
        )
        seconds = time.perf_counter() - began
        assert written.shape == (job["batch"], job["prompt"] + job["new"])
        print(json.dumps({"seconds": seconds}), flush=True)


def write_tokenizer(folder: Path, vocab_size: int) -> None:
    """Save a tokenizer whose every token is one character."""
    tokenizers, transformers = import_module("tokenizers"), import_module("transformers")
    characters = {chr(FIRST_CHARACTER + id): id for id in range(vocab_size)}
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel(characters, unk_token=chr(FIRST_CHARACTER))
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex("."), "isolated")
    tokenizer.decoder = tokenizers.decoders.Fuse()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


if __name__ == "__main__":
    main()
