"""What a checkpoint's card shows: one short table a claim, and the command that measured it."""

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks import card_commands
from benchmarks.card_commands import read
from causalrn.model.block import Block
from causalrn.model.config import ModelConfig
from causalrn.model.evaluation import copying, fact_recall, recall_cell, refusal_cell
from causalrn.model.evaluation.calibration import refused
from causalrn.model.evaluation.queries import PLACES
from causalrn.model.tables import markdown

_LONGER = ("evaluation-long.json", "evaluation-longest.json")  # that a folder may have as well


def of(part: int, whole: int) -> str:
    """A share as two numbers, such as `2,599 of 2,600`; nothing for a share of nothing."""
    return f"{part:,} of {whole:,}" if whole else ""


def copies(folder: Path) -> str:
    """Exact copies by length: of all kinds of strings together, and of the worst one."""
    longer = [folder / name for name in _LONGER if (folder / name).exists()]
    measured = [read(file) for file in (folder / "evaluation.json", *longer)]
    cells = [copying.Cell(**cell) for results in measured for cell in results["cells"]]
    rows = [["length", "kinds", "exact copies", "of the worst kind"]]
    for length in sorted({cell.length for cell in cells}):
        here = [cell for cell in cells if cell.length == length]
        exact = of(sum(cell.exact for cell in here), sum(cell.n_strings for cell in here))
        worst = min(here, key=lambda cell: cell.exact / cell.n_strings)
        name = "" if worst.exact == worst.n_strings else f"{worst.kind}: "
        rows.append([f"{length:,}", str(len(here)), exact, name + of(worst.exact, worst.n_strings)])
    return _measured(measured, card_commands.evaluate, markdown(rows))


def turns(file: Path) -> str:
    """Exact copies in sessions of many turns, in a sentence."""
    results = read(file)
    scores = results["turns"]
    shortest, longest = results["lengths"]
    exact = of(sum(one["exact"] for one in scores), sum(one["n_sessions"] for one in scores))
    worst = min(scores, key=lambda one: one["exact"] / one["n_sessions"])
    text = (
        f"{exact} copies are exact, in {scores[0]['n_sessions']} sessions of {len(scores)} turns "
        f"with strings of {shortest:,} to {longest:,} tokens. When its last turn begins, a session "
        f"holds {scores[-1]['mean_pool']:,.0f} tokens on average."
    )
    if worst["exact"] < worst["n_sessions"]:
        text += f" The worst turn is number {worst['turn']}: "
        text += f"{of(worst['exact'], worst['n_sessions'])} are exact."
    return _measured([results], card_commands.turns, text)


def recall(file: Path) -> str:
    """Exact recalls, by pool and place, and by prefix."""
    results = read(file)
    cells = [recall_cell.Cell(**cell) for cell in results["cells"]]
    prefixes = sorted({cell.prefix for cell in cells})
    rows = [["tokens in the session", "prefix from the", *(f"{n} tokens" for n in prefixes)]]
    for pool in sorted({cell.pool for cell in cells}):
        for place in PLACES:
            here = [cell for cell in cells if (cell.pool, cell.place) == (pool, place)]
            shares = [
                of(
                    sum(cell.exact for cell in here if cell.prefix == prefix),
                    sum(cell.n_queries for cell in here if cell.prefix == prefix),
                )
                for prefix in prefixes
            ]
            rows.append([f"{pool:,}", place, *shares])
    return _measured([results], card_commands.recall, markdown(rows))


def facts(file: Path) -> str:
    """Facts whose value came back right, by pattern, and by how they were told."""
    results = read(file)
    cells = {cell.key: cell for cell in (fact_recall.Cell(**cell) for cell in results["cells"])}
    sessions = list(product(results["facts"], results["together"], results["told"]))
    rows = [["right values", *(_told(*session) for session in sessions)]]
    for pattern in dict.fromkeys(pattern for pattern, *_ in cells):
        found = [cells.get((pattern, *session)) for session in sessions]
        shares = [of(cell.right, cell.facts) if cell else "" for cell in found]
        rows.append([pattern, *shares])
    return _measured([results], card_commands.facts, markdown(rows))


def _told(facts: int, together: int, times: int) -> str:
    """How the facts of a session are told."""
    again = f", told {times} times" if times > 1 else ""
    return f"{facts:,} facts, {together} in a turn{again}"


def misses(file: Path) -> str:
    """What was never read and what was, by the tokens that sessions hold."""
    results = read(file)
    cells = [refusal_cell.Cell(**cell) for cell in results["cells"]]
    rows = [
        ["tokens in the session", "misses refused", "hits answered exactly", "answered wrongly"]
    ]
    for pool in sorted({cell.pool for cell in cells}):
        here = [cell for cell in cells if cell.pool == pool]
        rows.append([f"{pool:,}", *misses_and_hits(here, results["least_match"])])
    return _measured([results], card_commands.misses, markdown(rows))


def misses_and_hits(cells: Sequence[refusal_cell.Cell], least: float) -> tuple[str, str, str]:
    """How many misses are refused, and how many hits are answered exactly, and how many wrongly.

    Hits that are neither are refused as well.

    Args:
        cells: what was asked for.
        least: the match below which it is refused.
    """
    missing, right, wrong = (
        [match for cell in cells for match in getattr(cell, name)]
        for name in ("missing", "right", "wrong")
    )
    n_hits = len(right) + len(wrong)
    return (
        of(refused(missing, least), len(missing)),
        of(len(right) - refused(right, least), n_hits),
        of(len(wrong) - refused(wrong, least), n_hits),
    )


def size(folder: Path) -> str:
    """How large a checkpoint's weights, its contexts and its memory of a token are."""
    config = ModelConfig.from_dict(read(folder / "config.json")["model"], ("model",))
    layers = [Block.spec(block, config.d_model) for block in config.blocks]
    memory = sum(tensor.n_bytes for layer in layers for tensor in layer.pool)
    weights = (folder / "model.safetensors").stat().st_size
    return (
        f"The weights take {weights / 2**20:.1f} MiB. A text and its answer have at most "
        f"{config.max_seq_len:,} tokens together, and each of these takes {memory:,} bytes of the "
        "memory pool."
    )


def _measured(
    measured: Sequence[dict[str, Any]], command: Callable[[dict[str, Any]], str], what: str
) -> str:
    commands = ", ".join(command(results) for results in measured)
    return f"{commands}:\n\n{what}"
