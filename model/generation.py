"""Free-running decoding of a few prompts at once, without a server."""

from collections.abc import Iterator, Sequence

from causalrn.model.checkpoint import Checkpoint
from causalrn.model.runner import Runner
from causalrn.model.sampling import Sampler, SamplingParams


def generate(
    checkpoint: Checkpoint,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: Sequence[int],
    sampling: SamplingParams | None = None,
) -> Iterator[dict[int, int]]:
    """Answer prompts in the task's first mode, one token a step, until EOS or a limit.

    Args:
        checkpoint: the model.
        prompts: content ids, which the task frames.
        max_tokens: for each prompt, the most tokens that its answer may have.
        sampling: how tokens are chosen; greedily if left out. Each prompt draws from a generator
            of its own.

    Returns:
        For each step its new tokens, by the index of their prompt. EOS is not among them; a prompt
        that is missing has ended, by EOS or at its limit.

    Raises:
        ValueError: a prompt with its limit exceeds the model's `max_seq_len`.
    """
    task = checkpoint.task
    framed = [task.frame(prompt, task.modes[0]) for prompt in prompts]
    lengths = [len(ids) + limit for ids, limit in zip(framed, max_tokens, strict=True)]
    longest = checkpoint.config.max_seq_len
    if max(lengths, default=0) > longest:
        raise ValueError(
            f"prompt and output may take up to {max(lengths)} tokens, "
            f"{checkpoint.name} holds {longest}"
        )
    asked = {row: ids for row, ids in enumerate(framed) if max_tokens[row] > 0}
    params = sampling or SamplingParams()
    steps = Runner(checkpoint, lengths).write(
        asked,
        lambda row, written: len(written) < max_tokens[row],
        {row: Sampler(params, prompt=ids) for row, ids in asked.items()},
    )
    eos = checkpoint.config.eos_id
    return ({row: token for row, token in step.items() if token != eos} for step in steps)
