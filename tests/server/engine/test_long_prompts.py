"""Long prompts beside streams: what a step may take depends on what the model computes for it."""

from pathlib import Path

import pytest
from pydantic import ByteSize

from causalrn.model.checkpoint import load_checkpoint
from causalrn.server.settings import Settings
from tests.server.driver import Driver

ROOT = Path(__file__).parents[3]
BUDGET, PROMPT = 256, 2000
BESIDE = 30  # tokens, about, of a prompt that a step takes beside a stream, whatever they cost


@pytest.mark.parametrize(
    ("name", "reads_pairs"), [("exact-bytes-small", False), ("copy-bytes", True)]
)
def test_a_prompt_is_read_in_small_parts_only_if_its_tokens_are_compared(
    name: str, reads_pairs: bool
) -> None:
    """Blocks that only remember a prompt make its last tokens as cheap as its first."""
    model = load_checkpoint(ROOT / "checkpoints" / name)
    settings = Settings(
        max_running=4, max_batch_tokens=BUDGET, page_size=64, pool_bytes=ByteSize(2**27)
    )
    driver = Driver(model, settings)
    driver.add("stream", [97] * 5000, max_tokens=4000)
    while driver.progress["stream"].first_token is None:
        driver.step()
    driver.add("prompt", [98] * PROMPT, max_tokens=1)
    n_steps = 0
    while "prompt" not in driver.ended:
        driver.step()
        n_steps += 1
    assert "stream" not in driver.ended
    least = -(-PROMPT // BESIDE)
    assert (n_steps > 2 * least) if reads_pairs else (n_steps <= least + 1)
