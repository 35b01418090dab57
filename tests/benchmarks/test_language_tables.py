from typing import Any

from benchmarks.language_tables import language


def model(bits: float) -> dict[str, Any]:
    return {
        "parameters": 1_000_000,
        "bits": bits,
        "first": bits + 0.1,
        "second": bits - 0.5,
        "by_context": [
            {"begin": 0, "end": 16, "bits": bits + 1},
            {"begin": 16, "end": 24, "bits": bits},
        ],
        "session_bytes": {"1024": 1536, "16384": 3 * 2**20},
        "tokens_per_second": {"1": 1234.4, "16": 5678.0},
    }


FIGURES = {
    "machine": "Some CPU",
    "cores": 2,
    "tokens": 10_000,
    "held_out_bytes": 5_000,
    "context": 24,
    "prompt": 512,
    "new": 256,
    "ngrams": [{"order": 5, "bits": 2.25}],
    "models": {
        name: model(2 + number / 10)
        for number, name in enumerate(
            ["lm-bytes", "normalized", "separable", "taps", "transformer", "linear-transformer"]
        )
    },
}


def test_all_models_and_n_grams_have_a_row() -> None:
    lines = language(FIGURES).splitlines()
    assert lines[0].startswith("All models of this table have read 10,000 tokens of the same doc")
    (row,) = (line for line in lines if line.startswith("| no pool | 1"))
    assert (
        row == "| no pool | 1,000,000 | 2.200 | 2.300 | 1.700 | 1,234 | 5,678 | 1.5 KiB | 3.0 MiB |"
    )
    assert "| 5-gram |  | 2.250 |  |  |  |  |  |  |" in lines
    assert "| the taps alone | 3.300 | 2.300 |" in lines
    assert sum(line.startswith("| ") for line in lines) == 2 * (2 + 6) + 1


def test_the_shipped_model_comes_first_and_is_said_to_be_another() -> None:
    models = {**FIGURES["models"], "lm-bytes, shipped": model(1.5)}  # type: ignore[dict-item]
    text = language(FIGURES | {"models": models})
    assert "but the shipped one, which was trained for longer" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows[2].startswith("| **lm-bytes, shipped** | 1,000,000 | 1.500 |")
