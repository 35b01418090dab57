"""What a checkpoint's `results.md` shows: all that a measurement found, and its command."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmarks import card_commands, card_tables
from benchmarks import copies as copies_through_http
from benchmarks.card_commands import read
from causalrn.model.evaluation import copying, fact_recall, recall_cell, refusal_cell, turn_scores


def copies(file: Path) -> str:
    """Copies by kind and length, or in a few lines if all are exact."""
    return f"{card_commands.evaluate(read(file))}:\n\n{tried(file)}"


def tried(file: Path) -> str:
    """The same without the command: of a model that is not shipped."""
    cells = [copying.Cell(**cell) for cell in read(file)["cells"]]
    if all(cell.exact == cell.n_strings for cell in cells):
        return _all_exact(cells)
    numbers = " or ".join(map(str, sorted({cell.n_strings for cell in cells})))
    plural = "" if numbers == "1" else "s"
    return f"{numbers} string{plural} a cell, per cent:\n\n{copying.markdown_tables(cells)}"


def http(file: Path) -> str:
    """Copies through HTTP, by length; nothing as long as they have not been measured."""
    if not file.exists():
        return ""
    results = read(file)
    return f"{card_commands.http(results)}:\n\n{copies_through_http.show(results)}"


def turns(file: Path) -> str:
    """Sessions of many turns: exact copies by turn and by kind, or in a sentence if all are."""
    results = read(file)
    scores = [turn_scores.TurnScore(**score) for score in results["turns"]]
    if all(score.exact == score.n_sessions for score in scores):
        return card_tables.turns(file)
    kinds = [turn_scores.KindScore(**score) for score in results["kinds"]]
    return f"{card_commands.turns(results)}, per cent:\n\n{turn_scores.score_tables(scores, kinds)}"


def recall(file: Path) -> str:
    """Recall of what was read, by kind of text, pool, prefix and place."""
    results = read(file)
    cells = [recall_cell.Cell(**cell) for cell in results["cells"]]
    n_queries = sum(cell.n_queries for cell in cells)
    most = max(cell.n_queries for cell in cells)
    return (
        f"{card_commands.recall(results)}: {n_queries:,} queries, up to {most} of each kind, pool, "
        f"prefix and place (lengths in tokens), per cent:\n\n{recall_cell.markdown_tables(cells)}"
    )


def facts(file: Path) -> str:
    """Recall of facts that are all alike."""
    results = read(file)
    cells = [fact_recall.Cell(**cell) for cell in results["cells"]]
    return (
        f"{card_commands.facts(results)}: every fact is asked for, per cent:\n\n"
        f"{fact_recall.markdown_tables(cells)}"
    )


def misses(file: Path) -> str:
    """What stands nowhere, and whether it is refused."""
    results = read(file)
    cells = [refusal_cell.Cell(**cell) for cell in results["cells"]]
    n_misses = sum(len(cell.missing) for cell in cells)
    return (
        f"{card_commands.misses(results)}: {n_misses:,} misses and as many hits, per cent:\n\n"
        f"{refusal_cell.markdown_tables(cells, results['least_match'])}"
    )


def _all_exact(cells: Sequence[copying.Cell]) -> str:
    """What was copied, in place of tables in which everything is 100."""
    lengths: dict[tuple[str, ...], dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for length in sorted({cell.length for cell in cells}):
        here: dict[int, list[str]] = defaultdict(list)
        for cell in cells:
            if cell.length == length:
                here[cell.n_strings].append(cell.kind)
        for number, kinds in here.items():
            lengths[tuple(kinds)][number].append(f"{length:,}")
    items = []
    for names, numbers in lengths.items():
        at_each = [f"{number:,} of each at {', '.join(at)}" for number, at in numbers.items()]
        items.append(f"- {'; '.join(names)}: {'; '.join(at_each)}.")
    n_strings = sum(cell.n_strings for cell in cells)
    return f"All {n_strings:,} strings are exact. By kind and length:\n\n" + "\n".join(items)
