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

from benchmarks import (
    capacity_tables,
    card_commands,
    card_tables,
    claims,
    engine_tables,
    gpu_tables,
    kernel_tables,
    language_tables,
    margin_tables,
    precision_tables,
    residual_tables,
    results_tables,
    session_tables,
    training_tables,
)
from benchmarks.figures import Paragraphs, read_results, start
from benchmarks.peers import tables as peer_tables
from benchmarks.pool_dtype_tables import pool_dtypes
from causalrn.server.settings import Settings

ROOT = Path(__file__).resolve().parents[1]

_DRAWINGS = ("margin", "training")  # results that have one
_SESSION_SETTINGS = ("session_store", "session_ttl", "max_sessions", "max_session_tokens")
_BLOCK = re.compile(r"(<!-- begin ([^>]+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)


def documents() -> list[Path]:
    """Documents that hold figures."""
    folders = (
        "checkpoints/*/README.md",
        "checkpoints/*/results.md",
        "docs/*.md",
        "model/ops/*/*.md",
    )
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


def _each(show: Callable[[Path], str]) -> Callable[[Path], str]:
    """A block of all files that fit a pattern, one after the other; there must be one."""

    def block(pattern: Path) -> str:
        files = sorted(pattern.parent.glob(pattern.name), key=lambda file: file.stem)
        if not files:
            raise FileNotFoundError(pattern)
        return "\n\n".join(show(file).strip() for file in files)

    return block


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


def _reproduced(table: str) -> Callable[[Path], str]:
    """A table of `benchmarks.reproduction_tables`."""

    def block(folder: Path) -> str:
        from benchmarks import reproduction_tables  # with Matplotlib, as above

        found: str = getattr(reproduction_tables, table)(folder)
        return found

    return block


_BLOCKS: dict[str, Callable[[Path], str]] = {
    "ablations": _reproduced("ablations"),
    "beyond": _reproduced("others"),
    "capacity": lambda _: capacity_tables.capacity(read_results("capacity")),
    "claims": claims.table,
    "compared": lambda _: engine_tables.compared(),
    "copies": results_tables.copies,
    "copies-in-short": card_tables.copies,
    "crashes": lambda _: session_tables.crashes(),
    "facts": results_tables.facts,
    "facts-in-short": card_tables.facts,
    "gpu-buckets": lambda _: gpu_tables.buckets(),
    "gpu-resources": lambda _: gpu_tables.resources(),
    "gpu-roofline": lambda _: gpu_tables.roofline(),
    "growth": lambda _: peer_tables.growth(),
    "http": results_tables.http,
    "kernels": kernel_tables.kernels,
    "keyed-kernels": kernel_tables.keyed_kernels,
    "language": lambda file: language_tables.language(card_commands.read(file)),
    "largest-pools": lambda _: margin_tables.copies(read_results("margin")),
    "limits": lambda _: engine_tables.limits(),
    "load": lambda _: engine_tables.load(),
    "misses": results_tables.misses,
    "misses-in-short": card_tables.misses,
    "overload": lambda _: engine_tables.overload(),
    "peers": lambda _: peer_tables.short(),
    "peers-copies": lambda _: peer_tables.copies(),
    "peers-http": lambda _: peer_tables.over_http(),
    "peers-in-process": lambda _: peer_tables.in_process(),
    "pool-dtypes": lambda _: pool_dtypes(),
    "precision-serving": lambda _: precision_tables.serving(read_results("precision")),
    "precision-training": lambda _: precision_tables.training(read_results("precision")),
    "prefill": lambda _: engine_tables.prefill(),
    "recall": results_tables.recall,
    "recall-in-short": card_tables.recall,
    "relation": _relation,
    "session-forks": lambda _: session_tables.forks(),
    "session-lengths": lambda _: session_tables.lengths(),
    "session-settings": lambda _: _settings_table(_SESSION_SETTINGS),
    "session-streams": lambda _: session_tables.streams(),
    "session-visits": lambda _: session_tables.visits(),
    "settings": lambda _: _settings_table(list(Settings.model_fields)),
    "prefix-residuals": lambda _: residual_tables.prefixes(read_results("residuals")),
    "shared-tokens": lambda _: margin_tables.recall(read_results("margin")),
    "size": card_tables.size,
    "soak": lambda _: engine_tables.soak(),
    "speculation": lambda _: engine_tables.speculation(),
    "stall": lambda _: engine_tables.stall(),
    "starts": lambda _: engine_tables.starts(),
    "steps": lambda _: engine_tables.steps(),
    "training-starts": lambda _: training_tables.starts(read_results("training")),
    "training": _training,
    "trainings": _reproduced("trainings"),
    "tried": results_tables.tried,
    "turns": _each(results_tables.turns),
    "turns-in-short": _each(card_tables.turns),
}


def stale() -> dict[Path, str]:
    """Documents and drawings that are out of date, each with the text that it should have."""
    return {file: text for file, text in _files() if not _holds(file, text)}


def _files() -> Iterator[tuple[Path, str]]:
    from benchmarks import drawing, reproduction_tables  # with Matplotlib, which is slow to import

    for document in documents():
        yield document, render(document)
    for name in _DRAWINGS:
        yield drawing.file_of(name), drawing.draw_svg(name)
    yield from reproduction_tables.drawings()


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
