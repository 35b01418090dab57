"""Writes the byte tokenizer in the format of Hugging Face, for other people's load tools.

    python -m benchmarks.byte_tokenizer FOLDER

A tool that counts tokens, or draws prompts of so many, needs the tokenizer of the model. With this
one each byte of UTF-8 is a token, whose id is the byte, as in `model.tokenizer.ByteTokenizer`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.figures import Paragraphs, start
from causalrn.model.tokenizers.base import special_tokens
from causalrn.model.tokenizers.byte import ByteTokenizer

_N_BYTES = 256
# What the format writes for bytes that are no printable characters begins here.
_FIRST_STAND_IN = 0x100
_PRINTABLE = (range(0x21, 0x7F), range(0xA1, 0xAD), range(0xAE, _N_BYTES))


def characters() -> list[str]:
    """The character that stands for each byte in the format."""
    printable = {byte for span in _PRINTABLE for byte in span}
    stand_ins = (chr(_FIRST_STAND_IN + number) for number in range(_N_BYTES))
    return [chr(byte) if byte in printable else next(stand_ins) for byte in range(_N_BYTES)]


def tokenizer_json() -> dict[str, Any]:
    """What stands in `tokenizer.json`."""
    by_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    added = [
        {
            "id": token_id,
            "content": name,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for token_id, name in special_tokens(ByteTokenizer()).items()
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": by_bytes | {"use_regex": False},
        "post_processor": None,
        "decoder": by_bytes | {"use_regex": False},
        "model": {
            "type": "BPE",
            "vocab": {character: byte for byte, character in enumerate(characters())},
            "merges": [],
        },
    }


def write(folder: Path) -> None:
    """Write the two files of a tokenizer into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = ByteTokenizer()
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokenizer.token(tokenizer.bos_id),
        "eos_token": tokenizer.token(tokenizer.eos_id),
        "clean_up_tokenization_spaces": False,
    }
    for name, values in {"tokenizer": tokenizer_json(), "tokenizer_config": config}.items():
        file = folder / f"{name}.json"
        file.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Write the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Paragraphs)
    parser.add_argument("folder", type=Path, help="to write to; it is made")
    write(parser.parse_args().folder)


if __name__ == "__main__":
    start(main)
