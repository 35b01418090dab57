"""Writes what was measured into the documents, between `<!-- begin … -->` and `<!-- end … -->`.

    python -m benchmarks.report            # after a measurement
    python -m benchmarks.report --check    # fails if a document or a drawing is out of date

No number is typed by hand: each block names the measurement that it shows. Drawings, in
`docs/figures`, show measurements too.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import engine_tables, margin_tables, session_tables
from benchmarks.figures import Paragraphs, read_results, start
from model.evaluation import copying, fact_recall, recall_cell, refusal_cell, turn_scores
from model.evaluation.copying import Cell
from server.settings import Settings

ROOT = Path(__file__).resolve().parents[1]

_DRAWINGS = ("margin",)  # results that have one
_SESSION_SETTINGS = ("session_store", "session_ttl", "max_sessions", "max_session_tokens")
_BLOCK = re.compile(r"(<!-- begin ([^>]+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)


def documents() -> list[Path]:
    """Documents that hold figures."""
    folders = ("checkpoints/*/README.md", "docs/*.md", "model/ops/*/*.md")
    return [ROOT / "README.md", *(file for glob in folders for file in sorted(ROOT.glob(glob)))]


def render(document: Path) -> str:
    """The document's text with every block written anew.

    Raises:
        ValueError: it has a block of an unknown kind.
    """

    def block(found: re.Match[str]) -> str:
        kind, _, argument = found[2].partition(" ")
        if kind not in _BLOCKS:
            raise ValueError(f"{document}: unknown block {found[2]!r}")
        return found[1] + _BLOCKS[kind](document.parent / argument).strip() + "\n" + found[3]

    return _BLOCK.sub(block, document.read_text(encoding="utf-8"))


def _cells(file: Path) -> list[Cell]:
    return [Cell(**cell) for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]]


def _evaluation(file: Path) -> str:
    """All of one evaluation: strings exact and characters right, by kind and length."""
    results = json.loads(file.read_text(encoding="utf-8"))
    n_strings = sorted({cell["n_strings"] for cell in results["cells"]})
    strings = " or ".join(map(str, n_strings))
    return f"{strings} strings a cell, per cent:\n\n" + copying.markdown_tables(_cells(file))


def _turns(file: Path) -> str:
    """Sessions of many turns: copies exact, by turn and by kind."""
    results = json.loads(file.read_text(encoding="utf-8"))
    scores = [turn_scores.TurnScore(**score) for score in results["turns"]]
    kinds = [turn_scores.KindScore(**score) for score in results["kinds"]]
    shortest, longest = results["lengths"]
    return (
        f"{scores[0].n_sessions} sessions of {len(scores)} strings of {shortest} to {longest} "
        f"tokens, per cent:\n\n{turn_scores.score_tables(scores, kinds)}"
    )


def _turns_in_short(file: Path) -> str:
    """Sessions of many turns: copies exact of the first one and of every fifth."""
    results = json.loads(file.read_text(encoding="utf-8"))
    scores = [turn_scores.TurnScore(**score) for score in results["turns"]]
    shown = [score for score in scores if score.turn == 1 or score.turn % 5 == 0]
    shortest, longest = results["lengths"]
    exact = sum(score.exact for score in scores) / sum(score.n_sessions for score in scores)
    places = " | ".join(str(score.turn) for score in shown)
    rows = [
        f"| turn, of strings of {shortest} to {longest} tokens | {places} | all |",
        "|---|" + "---:|" * (len(shown) + 1),
        f"| exact, in {scores[0].n_sessions} sessions | "
        + " | ".join(f"{_floor(s.exact / s.n_sessions)} %" for s in shown)
        + f" | {_floor(exact)} % |",
    ]
    return "\n".join(rows)


def _recall(file: Path) -> str:
    """Recall of what was read, by kind of text, pool and prefix."""
    results = json.loads(file.read_text(encoding="utf-8"))
    cells = [recall_cell.Cell(**cell) for cell in results["cells"]]
    n_queries = sum(cell.n_queries for cell in cells)
    most = max(cell.n_queries for cell in cells)
    return (
        f"{n_queries} queries, up to {most} of each kind, pool, prefix and place (lengths in "
        f"tokens), per cent:\n\n{recall_cell.markdown_tables(cells)}"
    )


def _facts(file: Path) -> str:
    """Recall of facts that are all alike."""
    results = json.loads(file.read_text(encoding="utf-8"))
    cells = [fact_recall.Cell(**cell) for cell in results["cells"]]
    return f"Every fact is asked for, per cent:\n\n{fact_recall.markdown_tables(cells)}"


def _misses(file: Path) -> str:
    """What stands nowhere, and whether it is refused."""
    results = json.loads(file.read_text(encoding="utf-8"))
    cells = [refusal_cell.Cell(**cell) for cell in results["cells"]]
    n_misses = sum(len(cell.missing) for cell in cells)
    return f"{n_misses} misses and as many hits, per cent:\n\n" + refusal_cell.markdown_tables(
        cells, results["least_match"]
    )


def _summary(folder: Path) -> str:
    """By length, over all kinds: strings exact, of the worst kind too, and characters right."""
    rows = ["| bytes | strings | exact | worst kind | bytes right |", "|---:|---:|---:|---:|---:|"]
    files = [folder / f"evaluation{longer}.json" for longer in ("", "-long", "-longest")]
    cells = [cell for file in files if file.exists() for cell in _cells(file)]
    for length in sorted({cell.length for cell in cells}):
        here = [cell for cell in cells if cell.length == length]
        n_strings = sum(cell.n_strings for cell in here)
        exact = sum(cell.exact for cell in here) / n_strings
        worst = min(cell.exact / cell.n_strings for cell in here)
        right = sum(cell.characters_right for cell in here) / (n_strings * length)
        shares = " | ".join(f"{_floor(share)} %" for share in (exact, worst, right))
        rows.append(f"| {length} | {n_strings} | {shares} |")
    return "\n".join(rows)


def _limits(folder: Path) -> str:
    """The longest copies that were measured, and how many tokens a session may have."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model"]
    row = _summary(folder).splitlines()[-1]
    length, _, exact, *_ = (part.strip() for part in row.strip("|").split("|"))
    return (
        f"The longest copies that were measured have {int(length):,} bytes, and {exact} of these "
        f"are exact. Longer texts are taken, up to the {config['max_seq_len']:,} tokens that a "
        "session holds."
    )


def _floor(share: float) -> str:
    """A share in per cent, never rounded up."""
    return "100" if share == 1 else f"{int(share * 10_000) / 100:.2f}"


def _training(file: Path) -> str:
    """The last line of a training log, in words."""
    last = json.loads(file.read_text(encoding="utf-8").splitlines()[-1])
    seconds = last["seconds"]
    time = f"{seconds / 60:.0f} minutes" if seconds > 90 else f"{seconds:.0f} seconds"
    return (
        f"{last['step']:,} steps in {time}; in the last one the loss "
        f"was {last['loss']:.1e} and {100 * last['accuracy']:.2f} % of the tokens were right "
        "(teacher-forced)."
    )


def _relation(_: Path) -> str:
    figures = read_results("relation")
    rows = [
        "| | eager | this | times faster | of the machine's exponentials |",
        "|---|---:|---:|---:|---:|",
    ]
    rows += [
        f"| {phase} | {figures['eager_ms'][phase]:.0f} ms | {figures['ours_ms'][phase]:.2f} ms "
        f"| {figures['speedup'][phase]:.0f} | {figures['share_of_limit'][phase]:.0%} |"
        for phase in ("forward", "backward")
    ]
    memory = figures["peak_memory"]
    peaks = ", ".join(
        f"{size / 2**20:.0f} MiB at T={n}" for n, size in memory["bytes_by_T"].items()
    )
    longest = list(memory["bytes_by_T"])[-1]
    eager = memory["eager_pairs_bytes_by_T"][longest] / 2**30
    return "\n".join(rows) + (
        f"\n\nPeak memory of forward and backward grows linearly with T (B={memory['shape']['B']}, "
        f"R={memory['shape']['R']}): {peaks}. One tensor of all pairs would take {eager:.0f} GiB "
        f"at T={longest}."
    )


def _settings_table(names: Sequence[str]) -> str:
    rows = ["| variable | default | |", "|---|---|---|"]
    for name in names:
        field = Settings.model_fields[name]
        default: Any = field.default
        if isinstance(default, tuple):
            default = default[0] if default else None
        if isinstance(default, Path):
            default = default.relative_to(ROOT)
        shown = "derived" if field.default_factory else f"`{default}`"
        if default in (None, ""):
            shown = "none"
        rows.append(f"| `CAUSALRN_{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(rows)


_BLOCKS: dict[str, Callable[[Path], str]] = {
    "copying": _summary,
    "crashes": lambda _: session_tables.crashes(),
    "evaluation": _evaluation,
    "facts": _facts,
    "largest-pools": lambda _: margin_tables.copies(read_results("margin")),
    "limits": _limits,
    "load": lambda _: engine_tables.load(),
    "misses": _misses,
    "overload": lambda _: engine_tables.overload(),
    "peers": lambda _: engine_tables.peers(),
    "recall": _recall,
    "relation": _relation,
    "session-forks": lambda _: session_tables.forks(),
    "session-lengths": lambda _: session_tables.lengths(),
    "session-settings": lambda _: _settings_table(_SESSION_SETTINGS),
    "session-streams": lambda _: session_tables.streams(),
    "session-visits": lambda _: session_tables.visits(),
    "settings": lambda _: _settings_table(list(Settings.model_fields)),
    "shared-tokens": lambda _: margin_tables.recall(read_results("margin")),
    "soak": lambda _: engine_tables.soak(),
    "stall": lambda _: engine_tables.stall(),
    "steps": lambda _: engine_tables.steps(),
    "training": _training,
    "turns": _turns,
    "turns-in-short": _turns_in_short,
}


def stale() -> dict[Path, str]:
    """Documents and drawings that are out of date, each with the text that it should have."""
    return {file: text for file, text in _files() if not _holds(file, text)}


def _files() -> Iterator[tuple[Path, str]]:
    from benchmarks import drawing  # with Matplotlib, which is slow to import

    for document in documents():
        yield document, render(document)
    for name in _DRAWINGS:
        yield drawing.file_of(name), drawing.draw_svg(name)


def _holds(file: Path, text: str) -> bool:
    return file.exists() and file.read_text(encoding="utf-8") == text


def main() -> None:
    """Write all documents and drawings, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Paragraphs)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if out of date")
    check = parser.parse_args().check
    changes = stale()
    if check and changes:
        names = ", ".join(str(file.relative_to(ROOT)) for file in changes)
        raise SystemExit(f"out of date: {names}; run python -m benchmarks.report")
    for file, text in changes.items():
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    start(main)
