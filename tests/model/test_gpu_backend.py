"""A decoder on a device, interpreted, beside the same one on the CPU."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from causalrn.model.backends.gpu_inputs import Inputs
from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.decoder import Decoder
from causalrn.model.draws import RowDraw
from causalrn.model.predictions import Predictions
from causalrn.model.runner import Runner
from causalrn.model.sampling import Sampler, SamplingParams
from causalrn.model.state import DecoderState, RaggedBatch
from causalrn.model.step import UnsupportedOpError
from tests.model.tiny import tiny_config

N, LENGTH, PAGE = 2, 34, 16
CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"

pytestmark = pytest.mark.usefixtures("quick_interpreter")


def _decoder(backend: str, **changes: Any) -> Decoder:
    decoder = Decoder(tiny_config(**changes), backend).requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in decoder.parameters():
            parameter.normal_()
    return decoder


class Sequences:
    """Sequences of random tokens with their memory, which go on chunk by chunk."""

    def __init__(self, decoder: Decoder, seed: int) -> None:
        config, rng = decoder.config, np.random.default_rng(seed)
        self.decoder = decoder
        self.ids = np.random.default_rng(0).integers(3, 29, (N, LENGTH))
        self.ids[:, 0], self.ids[:, 20], self.ids[0, 1] = (
            config.bos_id, config.sep_id, config.sep_id,
        )  # fmt: skip
        n_tables = -(-LENGTH // PAGE)
        self.tables = rng.permutation(N * n_tables).astype(np.int32).reshape(N, n_tables)
        self.state: DecoderState = decoder.new_state(
            n_pages=N * n_tables, page_size=PAGE, n_slots=N, n_rows=N * n_tables
        )
        self.done = np.zeros(N, np.int64)

    def step(self, chosen: np.ndarray, counts: np.ndarray) -> Predictions:
        spans = [self.ids[s, self.done[s] :][:n] for s, n in zip(chosen, counts, strict=True)]
        batch = RaggedBatch(
            np.concatenate(spans), np.cumsum([0, *counts]), self.done[chosen], chosen,
            self.tables[chosen], (N + self.tables[chosen]).astype(np.int32),
        )  # fmt: skip
        self.done[chosen] += counts
        return self.decoder.extend(batch, self.state, np.arange(counts.sum()))

    def run(self, seed: int) -> tuple[torch.Tensor, np.ndarray]:
        """The logits and the likeliest tokens after all tokens of all sequences."""
        rng = np.random.default_rng(seed)
        logits = torch.full((N, LENGTH, self.decoder.config.vocab_size), float("nan"))
        likeliest = np.full((N, LENGTH), -2)
        while (left := LENGTH - self.done).any():
            chosen = rng.permutation(np.flatnonzero(left))
            chosen = chosen[: rng.integers(1, len(chosen) + 1)]
            counts = np.minimum(left[chosen], rng.integers(1, 30, len(chosen)))
            before = self.done.copy()
            found = self.step(chosen, counts)
            end = np.cumsum(counts)
            for s, n, last in zip(chosen, counts, end, strict=True):
                logits[s, before[s] : before[s] + n] = found.logits[last - n : last]
                likeliest[s, before[s] : before[s] + n] = found.likeliest[last - n : last]
        return logits, likeliest


KEYED = {"n_head": 1, "d_value": 6}
TOLD = {
    "silent_values": True, "tied_keys": True, "tells_match": True, "tolerance": 1.4,
    "within_turn": True,
}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "both relations": {},
    "MLPs": {"mlp_width": 20},
    "shifted MLPs": {"mlp_width": 20, "mlp_shift_width": 4},
    "a shifted MLP in blocks of recall": {
        "mixers": ("normalized", "normalized"),
        "recall_blocks": 1,
        "recall_shift_width": 1,
        "recall": True,
        "mlp_width": 20,
        "mlp_shift_width": 18,
    },
    "no shift": {"mixers": ("normalized",), "params": {"shift_width": 1}},
    "few channels are shifted": {
        "mixers": ("normalized",),
        "params": {"shift_channels": (16, 24), "within_turn": True},
    },
    "blocks of recall": {
        "mixers": ("normalized", "normalized"),
        "recall_blocks": 1,
        "recall_shift_width": 9,
        "recall": True,
    },
    "keys": {"mixers": ("normalized",), "params": KEYED | {"temperature": 40.0, "recency": 1.5}},
    "keys of which little counts": {
        "mixers": ("normalized", "normalized"),
        "params": KEYED | {"temperature": 1e6, "silent_values": True, "tied_keys": True},
        "mlp_width": 20,
    },
    "keys of recall": {
        "mixers": ("normalized", "normalized"),
        "params": KEYED | TOLD | {"temperature": 1e6, "recency": 50.0},
        "recall_blocks": 1,
        "recall_shift_width": 9,
        "recall": True,
    },
    "sharp values": {"mixers": ("normalized",), "params": {"n_head": 1, "temperature": 2.0}},
    "attention": {"mixers": ("attention",), "mlp_width": 20},
    "linear attention": {"mixers": ("linear_attention",)},
    "taps": {"mixers": ("taps", "normalized")},
    "learned positions": {"mixers": ("separable",), "positions": "learned", "d_position": 0},
    "no positions": {"mixers": ("separable",), "positions": "none", "d_position": 0},
}


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES)
def test_a_device_predicts_what_the_cpu_does(changes: dict[str, Any]) -> None:
    cpu, gpu = (Sequences(_decoder(name, **changes), 0) for name in ("cpu", "gpu"))
    expected, tokens = cpu.run(0)
    got, likeliest = gpu.run(0)
    assert (got - expected).abs().max() <= 3e-6 * expected.abs().max()
    assert np.array_equal(likeliest, tokens)
    assert torch.equal(gpu.state.counters, cpu.state.counters)
    for mine, other in zip(gpu.state.layers, cpu.state.layers, strict=True):
        for name, expected in other.state.items():
            got = mine.state[name][: len(expected)]
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("option", [{"rotary": True}, {"windows": [1, 0]}], ids=str)
def test_a_device_says_which_attention_it_lacks(option: dict[str, Any]) -> None:
    params = {"d_attention": 16, "n_head": 2} | option
    decoder = _decoder("gpu", blocks=[{"mixer": "attention", "params": params}])
    with pytest.raises(
        UnsupportedOpError, match="no operation 'rotary_or_windowed_attention', it has attention, "
    ):
        Sequences(decoder, 0).run(0)


@pytest.mark.parametrize(
    ("mixers", "mlp_shift_width"),
    [(("separable", "normalized"), 4), (("linear_attention", "attention"), 1)],
)
def test_chunks_and_pages_change_nothing(mixers: tuple[str, ...], mlp_shift_width: int) -> None:
    decoder = _decoder("gpu", mlp_width=20, mlp_shift_width=mlp_shift_width, mixers=mixers)
    first, second = (Sequences(decoder, seed).run(seed) for seed in range(2))
    assert torch.equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])


@pytest.mark.parametrize("name", ["copy-az", "copy-bytes", "exact-bytes", "exact-bytes-small"])
def test_shipped_checkpoints_copy_from_memories_in_bfloat16(name: str) -> None:
    model = load_checkpoint(CHECKPOINTS / name, "gpu", "bfloat16")
    ids = model.tokenizer.encode("abba")
    prompt = model.task.frame(ids, "copy")
    runner = Runner(model, [2 * len(prompt)])
    assert any(one.dtype == "bfloat16" for spec in model.decoder.specs for one in spec.pool)
    answer = runner.answer({0: prompt}, lambda _, written: len(written) <= len(ids))
    assert answer[0] == [*ids, model.config.eos_id]


def test_what_is_not_finite_makes_nothing_likely() -> None:
    decoder = _decoder("gpu", mixers=("normalized",))
    sequences = Sequences(decoder, 0)
    sequences.ids[1, 0] = 5
    decoder.embedding.token.weight[5] = torch.nan
    found = sequences.step(np.arange(N), np.ones(N, np.int64))
    assert found.likeliest.tolist() == [found.logits[0].argmax(), -1]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_what_goes_up_begins_where_no_kernel_is_compiled_anew(n: int) -> None:
    numbers, tables = np.arange(n), np.zeros((n, 3), np.int32)
    batch = RaggedBatch(numbers, np.arange(n + 1), numbers, numbers, tables)
    sampler = Sampler(SamplingParams(temperature=1.0, seed=1, logit_bias={3: 1.0}))
    draws = [RowDraw(row, *sampler.draws([], [None])) for row in range(n)]
    inputs = Inputs.alone(batch, torch.device("cpu"), wanted=[0], draws=draws)
    up = vars(inputs.batch) | vars(inputs.draws)
    places = {
        name: one.data_ptr() % 16 for name, one in up.items() if isinstance(one, torch.Tensor)
    }
    assert set(places) >= {"token_ids", "rows", "changes"}
    assert places == dict.fromkeys(places, 0)
    assert inputs.batch.places.tolist() == numbers.tolist()
    assert inputs.draws.changes[:, 0].tolist() == [3] * n
