"""Writes a checkpoint as a folder that `transformers` loads, tokenizer included."""

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from causalrn.model.checkpoint import Checkpoint
from causalrn.model.tokenizers.base import SPECIAL_TOKENS
from causalrn.model.tokenizers.byte import ByteTokenizer
from causalrn.model.tokenizers.file import FileTokenizer

_CODE = ("configuration_causalrn.py", "modeling_causalrn.py")
_MIXERS = ("attention", "linear_attention", "normalized", "separable")
_CARD = """---
library_name: transformers
pipeline_tag: text-generation
---

# {name}

A CausalRN, exported for `transformers`. Its code is in this folder, and has to be trusted:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "{name}"
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
ids = tokenizer("{prompt}", return_tensors="pt").input_ids
print(tokenizer.decode(model.generate(ids, max_new_tokens=40, do_sample=False)[0]))
```

It was trained on the task `{task}`, whose prompts are framed as in the example. Every token is
computed from the whole text anew: this is for looking into the model and comparing it. The project
that exported it serves it in a fraction of the time.
"""


class ExportError(ValueError):
    """A checkpoint that cannot be exported. The message says why."""


def export(checkpoint: Checkpoint, folder: Path) -> None:
    """Write the folder.

    Args:
        checkpoint: the model.
        folder: made if it is not there; files of the same names are replaced.

    Raises:
        ExportError: the exported code does not know one of the model's mixers.
        OSError: the folder cannot be written.
    """
    config = checkpoint.config
    for number, block in enumerate(config.blocks):
        if block.mixer not in _MIXERS:
            raise ExportError(
                f"block {number} of {checkpoint.name} has the mixer {block.mixer!r}, and exports "
                f"know {', '.join(_MIXERS)}"
            )
    folder.mkdir(parents=True, exist_ok=True)
    for name in _CODE:
        shutil.copyfile(Path(__file__).parent / name, folder / name)
    tensors = {
        name: one.contiguous().cpu() for name, one in checkpoint.decoder.state_dict().items()
    }
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    ids = {"bos_token_id": config.bos_id, "eos_token_id": config.eos_id}
    _write(folder / "config.json", _config(checkpoint) | ids)
    _write(
        folder / "generation_config.json",
        {**ids, "pad_token_id": config.eos_id, "use_cache": False},
    )
    _write_tokenizer(checkpoint, folder)
    framed = checkpoint.task.frame([], checkpoint.task.modes[0])
    before, after = framed[:1], framed[1:]
    tokenizer = checkpoint.tokenizer
    prompt = "".join([*map(tokenizer.token, before), "abc", *map(tokenizer.token, after)])
    card = _CARD.format(name=checkpoint.name, prompt=prompt, task=checkpoint.task.name)
    (folder / "README.md").write_text(card, encoding="utf-8")


def _config(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "architectures": ["CausalRNForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_causalrn.CausalRNConfig",
            "AutoModelForCausalLM": "modeling_causalrn.CausalRNForCausalLM",
        },
        "model_type": "causalrn",
        "dtype": "float32",
        "shape": checkpoint.config.to_dict(),
        "vocab_size": checkpoint.config.vocab_size,
        "max_position_embeddings": checkpoint.config.max_seq_len,
    }


def _write_tokenizer(checkpoint: Checkpoint, folder: Path) -> None:
    """The tokenizer as the library `tokenizers` has it, with the same ids."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    own = checkpoint.tokenizer
    if isinstance(own, FileTokenizer):
        library = Tokenizer.from_str(own.text)
    else:
        names = [own.token(i) for i in range(own.vocab_size)]
        if isinstance(own, ByteTokenizer):
            names = [_byte_name(i) if i < own.bos_id else name for i, name in enumerate(names)]
        library = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, []))
        if isinstance(own, ByteTokenizer):
            library.pre_tokenizer = pre_tokenizers.ByteLevel(
                add_prefix_space=False, use_regex=False
            )
            library.decoder = decoders.ByteLevel()
        else:
            library.decoder = decoders.Fuse()
    specials = dict(zip((own.bos_id, own.sep_id, own.eos_id), SPECIAL_TOKENS, strict=True))
    for token_id, name in specials.items():
        if library.token_to_id(name) not in (None, token_id):  # a token of the file's own
            specials[token_id] = f"<causalrn-{name[1:]}"
    added = [AddedToken(name, special=True, normalized=False) for name in specials.values()]
    library.add_special_tokens(added)
    library.save(str(folder / "tokenizer.json"))
    bos, sep, eos = specials.values()
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": bos,
            "sep_token": sep,
            "eos_token": eos,
            "pad_token": eos,
            "clean_up_tokenization_spaces": False,
            "model_max_length": checkpoint.config.max_seq_len,
        },
    )


def _byte_name(byte: int) -> str:
    """The character that stands for a byte in byte-level tokenizers, as GPT-2 has it."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    if byte in printable:
        return chr(byte)
    return chr(256 + [b for b in range(256) if b not in printable].index(byte))


def _write(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
