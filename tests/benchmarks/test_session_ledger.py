import pytest

from benchmarks.session_ledger import Ledger, LedgerError

PROMPT, ANSWER = [256, 1, 2, 257], [1, 2, 258]


def in_a_turn(log: list[int], n_accepted: int | None = None) -> Ledger:
    """A session in whose turn so many tokens of the answer were heard; None: not a word."""
    ledger = Ledger("ses-a", list(log))
    ledger.begin(PROMPT, ANSWER)
    if n_accepted is not None:
        ledger.accept_prompt()
        ledger.accept(ANSWER[:n_accepted])
    return ledger


def test_a_turn_that_was_heard_whole_is_in_the_log() -> None:
    ledger = in_a_turn([7], 3)
    assert (ledger.log, ledger.ahead, ledger.n_turns) == ([7, *PROMPT, *ANSWER], [], 1)
    assert ledger.reconcile(ledger.log) == 0


@pytest.mark.parametrize("n_accepted", [None, 0, 1, 3])
@pytest.mark.parametrize("n_there", range(4))
def test_more_of_a_turn_than_was_heard_may_be_there_after_a_crash(
    n_accepted: int | None, n_there: int
) -> None:
    if n_there < (n_accepted or 0):
        return
    ledger = in_a_turn([7], n_accepted)
    n_known = len(ledger.log)
    found = [7, *PROMPT, *ANSWER[:n_there]]
    assert ledger.reconcile(found) == len(found) - n_known
    assert (ledger.log, ledger.ahead, ledger.n_prompt) == (found, ANSWER[n_there:], 0)


def test_a_turn_may_never_have_begun() -> None:
    ledger = in_a_turn([7])
    assert ledger.reconcile([7]) == 0
    assert (ledger.log, ledger.ahead) == ([7], [])


@pytest.mark.parametrize(
    ("n_accepted", "found", "missing", "invented"),
    [
        (None, [], 1, 0),
        (None, [8], 1, 1),
        (0, [7], 4, 0),
        (2, [7, *PROMPT, 1], 1, 0),
        (2, [7, *PROMPT, 1, 9, 258], 1, 2),
        (None, [7, *PROMPT[:2]], 0, 2),
        (None, [7, *PROMPT, 9], 0, 1),
        (1, [7, *PROMPT, 1, 258], 0, 1),
        (3, [7, *PROMPT, *ANSWER, 5, 5], 0, 2),
        (3, None, 8, 0),
    ],
)
def test_missing_and_invented_tokens_are_counted(
    n_accepted: int | None, found: list[int] | None, missing: int, invented: int
) -> None:
    ledger = in_a_turn([7], n_accepted)
    with pytest.raises(LedgerError) as caught:
        ledger.reconcile(found)
    assert (caught.value.missing, caught.value.invented) == (missing, invented)
    if found is not None:  # it goes on from what is there
        assert ledger.reconcile(found) == 0


def test_an_answer_that_is_not_the_copy_is_an_error() -> None:
    ledger = in_a_turn([7], 1)
    with pytest.raises(LedgerError) as caught:
        ledger.accept([2, 9])
    assert caught.value.invented == 1


def test_a_session_may_be_gone_while_it_is_being_deleted() -> None:
    ledger = Ledger("ses-a", [7], may_be_gone=True)
    assert ledger.reconcile([7]) == 0
    with pytest.raises(LedgerError, match="does not exist"):
        ledger.reconcile(None)
    assert Ledger("ses-a", [7], may_be_gone=True).reconcile(None) == 0


@pytest.mark.parametrize("found", [[7], [8, 9]])
def test_a_session_may_be_restored_or_not_while_it_is_being_restored(found: list[int]) -> None:
    ledger = Ledger("ses-a", [7], replacement=[8, 9])
    assert ledger.reconcile(found) == 0
    assert (ledger.log, ledger.replacement) == (found, None)


def test_half_a_restore_is_an_error() -> None:
    with pytest.raises(LedgerError):
        Ledger("ses-a", [7], replacement=[8, 9]).reconcile([8])
