"""What an admitted request becomes when it is queued."""

from itertools import count

from causalrn.model.tokenizers.byte import ByteTokenizer
from causalrn.server.engine.deltas import Progress
from causalrn.server.engine.generation import Generation, GenerationParams
from causalrn.server.engine.ticket import Context, Ticket

PROMPT = [256, 97, 257]


def ticket(params: GenerationParams, context: Context | None = None) -> Ticket:
    return Ticket("gen-1", PROMPT, params, context, "somebody")


def first_of(ticket: Ticket, *, arrived: float = 100.0, after: int = 0) -> Generation:
    return ticket.first_sample(ByteTokenizer(), count(after), Progress(arrived), 8)


def test_a_request_reads_its_context_and_then_its_prompt() -> None:
    going_on = ticket(GenerationParams(5), Context("ses-1", [1, 2]))
    assert (going_on.n_context, going_on.n_read) == (2, 5)
    sequence = first_of(going_on).sequence
    assert (sequence.token_ids, sequence.session) == ([1, 2, *PROMPT], "ses-1")
    assert (sequence.owner, sequence.max_tokens) == ("somebody", 5)


def test_a_request_without_context_is_in_no_session() -> None:
    alone = ticket(GenerationParams(5))
    assert (alone.n_context, alone.n_read) == (0, 3)
    assert first_of(alone).sequence.session is None


def test_the_first_sample_knows_the_others_and_goes_before_them() -> None:
    first = first_of(ticket(GenerationParams(5, n=3)))
    sequences = [one.sequence for one in (first, *first.part())]
    assert [one.id for one in sequences] == ["gen-1-0", "gen-1-1", "gen-1-2"]
    assert [one.rank for one in sequences] == [(100.0, 0), (100.0, 1), (100.0, 2)]
    sequences[0].token_ids.append(7)
    assert sequences[1].token_ids == PROMPT  # each has ids of its own


def test_ten_seconds_of_waiting_make_up_for_a_step_of_priority() -> None:
    late_but_urgent = first_of(ticket(GenerationParams(5, priority=-1)), arrived=109.0, after=1)
    early = first_of(ticket(GenerationParams(5)), arrived=100.0)
    long_before = first_of(ticket(GenerationParams(5)), arrived=98.0)
    ranks = [one.sequence.rank for one in (long_before, late_but_urgent, early)]
    assert ranks == sorted(ranks)


def test_log_probabilities_of_the_prompt_need_a_prompt_that_is_computed() -> None:
    assert not first_of(ticket(GenerationParams(5, echo=True, logprobs=0))).sequence.reusable
    assert first_of(ticket(GenerationParams(5, echo=True))).sequence.reusable
    assert first_of(ticket(GenerationParams(5, logprobs=0))).sequence.reusable
