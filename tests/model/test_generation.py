"""Free-running decoding of a few prompts, with real models and scripted ones."""

from pathlib import Path

import pytest
import torch

from causalrn.model.checkpoint import Checkpoint
from causalrn.model.generation import generate
from causalrn.model.sampling import SamplingParams
from tests.model.tiny import copying, random_checkpoint, scripted_checkpoint, tiny_config

LONGEST = 200


def outputs(
    checkpoint: Checkpoint,
    prompts: list[list[int]],
    limits: list[int],
    sampling: SamplingParams | None = None,
) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in prompts]
    for tokens in generate(checkpoint, prompts, max_tokens=limits, sampling=sampling):
        for row, token in tokens.items():
            found[row].append(token)
    return found


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return random_checkpoint(tmp_path_factory.mktemp("random"), max_seq_len=LONGEST)


PROMPTS = [[3], [4, 5, 6], list(range(3, 29)) * 3, [9] * 64, [28, 3] * 31 + [7]]


def test_ragged_prompts_match_forward(checkpoint: Checkpoint) -> None:
    limits = [40, 3, 30, 1, 25]
    found = outputs(checkpoint, PROMPTS, limits)
    eos = checkpoint.config.eos_id
    assert sum(map(len, found)) > 20
    assert len({token for tokens in found for token in tokens}) > 3
    for prompt, tokens, limit in zip(PROMPTS, found, limits, strict=True):
        ended = len(tokens) < limit
        wrapped = checkpoint.task.frame(prompt, "copy")
        logits = checkpoint.decoder.forward(torch.tensor([[*wrapped, *tokens]]))[0]
        after = logits[len(wrapped) - 1 :]
        assert len(after) == len(tokens) + 1
        # Where two logits tie, forward and extend may round to either side.
        for token, row in zip([*tokens, eos] if ended else tokens, after, strict=False):
            assert row[token] >= row.max() - 1e-3 * row.abs().max()


def test_prompts_together_give_what_each_gives_alone(checkpoint: Checkpoint) -> None:
    for sampling in (None, SamplingParams(temperature=1.0, top_k=10, seed=4)):
        limits = [20] * len(PROMPTS)
        together = outputs(checkpoint, PROMPTS, limits, sampling)
        alone = [outputs(checkpoint, [prompt], [20], sampling)[0] for prompt in PROMPTS]
        assert together == alone


def test_a_copy_ends_with_eos() -> None:
    checkpoint = scripted_checkpoint(copying(tiny_config()))
    steps = list(generate(checkpoint, [[3, 4, 5], [6]], max_tokens=[10, 10]))
    assert steps == [{0: 3, 1: 6}, {0: 4}, {0: 5}, {}]


def test_limits_are_kept() -> None:
    checkpoint = scripted_checkpoint(lambda _: 7)
    assert outputs(checkpoint, [[3], [3], [3]], [0, 1, 5]) == [[], [7], [7] * 5]
    assert list(generate(checkpoint, [[3]], max_tokens=[0])) == []
    assert list(generate(checkpoint, [], max_tokens=[])) == []


def test_eos_at_once_gives_nothing() -> None:
    checkpoint = scripted_checkpoint(lambda _: tiny_config().eos_id)
    assert list(generate(checkpoint, [[3]], max_tokens=[5])) == [{}]


def test_prompts_grow_over_many_pages() -> None:
    """`ScriptedDecoder` checks that no two sequences share a page."""
    config = tiny_config()
    checkpoint = scripted_checkpoint(copying(config))
    prompts = [[3 + (i * n) % 26 for i in range(n)] for n in (1, 31, 32, 62, 63, 64, 200)]
    assert outputs(checkpoint, prompts, [len(p) + 1 for p in prompts]) == prompts


def test_what_does_not_fit_is_refused_before_anything_is_decoded() -> None:
    def unasked(tokens: list[int]) -> int:
        raise AssertionError(tokens)

    checkpoint = scripted_checkpoint(unasked, max_seq_len=20)
    with pytest.raises(ValueError, match="may take up to 21 tokens, scripted holds 20"):
        generate(checkpoint, [[3], [3] * 8], max_tokens=[1, 11])


def test_what_just_fits_is_decoded() -> None:
    checkpoint = scripted_checkpoint(lambda _: 7, max_seq_len=20)
    assert outputs(checkpoint, [[3] * 8], [10]) == [[7] * 10]


def test_the_whole_length_can_be_used(checkpoint: Checkpoint) -> None:
    n_prompt = LONGEST - 2 - 10
    (found,) = outputs(checkpoint, [[5] * n_prompt], [10])
    assert len(found) == 10


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    checkpoint = random_checkpoint(tmp_path / "model")
    before = {name: t.clone() for name, t in checkpoint.decoder.state_dict().items()}
    outputs(checkpoint, PROMPTS[:2], [5, 5])
    after = checkpoint.decoder.state_dict()
    assert all(after[name].equal(before[name]) for name in before)
