"""What is claimed of a checkpoint: the bounds of each claim, and what was measured of it."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks import card_commands
from benchmarks.card_commands import read
from benchmarks.card_tables import misses_and_hits, of
from causalrn.model.evaluation import refusal_cell


class Claim(NamedTuple):
    """A row of the table."""

    claim: str
    bound: str
    measured: str
    command: str


def table(folder: Path) -> str:
    """The claims of which there are measurements in a checkpoint's folder."""
    rows = (Claim("claim", "bound", "measured", "command"), Claim(*["---"] * 4), *_claims(folder))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _claims(folder: Path) -> Iterator[Claim]:
    config = read(folder / "config.json")
    longest = f"{config['model']['max_seq_len']:,} tokens"
    together = f"text and copy together: {longest}"
    if (file := folder / "evaluation.json").exists():
        yield _copies(file, together)
    if (file := folder / "http.json").exists():
        yield _http(file, together)
    for file in sorted(folder.glob("turns*.json"), key=lambda file: file.stem):
        yield _turns(file, f"a session: {longest}")
    window = f"at most the last {config['task']['params']['window']} tokens tell places apart"
    if (file := folder / "recall.json").exists():
        yield _recall(file, window)
    if (file := folder / "facts.json").exists():
        yield from _facts(file, window)
    if (file := folder / "misses.json").exists():
        yield _misses(file)


def _copies(file: Path, bound: str) -> Claim:
    results = read(file)
    cells = results["cells"]
    exact = of(sum(cell["exact"] for cell in cells), sum(cell["n_strings"] for cell in cells))
    n_kinds = len({cell["kind"] for cell in cells})
    return Claim(
        "copies any text exactly",
        bound,
        f"{exact} strings of {n_kinds} kinds and {_range(cell['length'] for cell in cells)} tokens",
        card_commands.evaluate(results),
    )


def _http(file: Path, bound: str) -> Claim:
    results = read(file)
    cells = results["cells"]
    n_strings = sum(cell["n_strings"] for cell in cells)
    whole, streamed = (of(sum(c[name] for c in cells), n_strings) for name in ("whole", "streamed"))
    return Claim(
        "also through HTTP",
        bound,
        f"{whole} whole answers and {streamed} streams of "
        f"{_range(cell['length'] for cell in cells)} tokens",
        card_commands.http(results),
    )


def _turns(file: Path, bound: str) -> Claim:
    results = read(file)
    turns = results["turns"]
    exact = of(sum(turn["exact"] for turn in turns), sum(turn["n_sessions"] for turn in turns))
    return Claim(
        "also after many turns",
        bound,
        f"{exact} copies of {_range(results['lengths'])} tokens, {len(turns)} in a session",
        card_commands.turns(results),
    )


def _recall(file: Path, bound: str) -> Claim:
    results = read(file)
    cells = results["cells"]
    exact = of(sum(cell["exact"] for cell in cells), sum(cell["n_queries"] for cell in cells))
    return Claim(
        "recalls what a session read, from some words of it",
        bound,
        f"{exact} passages, from {_range(results['prefixes'])} tokens that stand in one place, in "
        f"sessions of {_range(results['pools'])} tokens",
        card_commands.recall(results),
    )


def _facts(file: Path, bound: str) -> Iterator[Claim]:
    results = read(file)
    for told, together in sorted({(cell["told"], cell["together"]) for cell in results["cells"]}):
        key = told, together
        cells = [cell for cell in results["cells"] if (cell["told"], cell["together"]) == key]
        right = of(sum(cell["right"] for cell in cells), sum(cell["facts"] for cell in cells))
        again = f", told {told} times" if told > 1 else ""
        yield Claim(
            "goes by what it was told last" if again else "keeps apart facts that are all alike",
            bound,
            f"{right} values, {_range(results['facts'])} in a session, {together} in a turn{again}",
            card_commands.facts(results),
        )


def _misses(file: Path) -> Claim:
    results = read(file)
    cells = [refusal_cell.Cell(**cell) for cell in results["cells"]]
    least = results["least_match"]
    refused, exact, _ = misses_and_hits(cells, least)
    return Claim(
        "says when it never read what it is asked for",
        f"a match below {least} is refused",
        f"{refused} misses refused, {exact} hits answered exactly, in sessions of "
        f"{_range(results['pools'])} tokens",
        card_commands.misses(results),
    )


def _range(numbers: Iterable[int]) -> str:
    found = sorted(numbers)
    least, most = found[0], found[-1]
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"
