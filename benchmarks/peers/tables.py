"""Tables of what the comparisons with peers measured, for the documents."""

import json
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.figures import RESULTS
from benchmarks.growth import AIM
from benchmarks.peers import aims

_SHORT_TOKENS = 512  # of a sequence
_NOTHING = "Not measured yet."


def short() -> str:
    """The plain dense models beside their peers, in process: one row a depth and batch."""
    rows = [
        "| layers | batch | this, tokens/s | Transformers, tokens/s | times as fast "
        "| llama.cpp, tokens/s | times as fast |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for run in _runs("in-process"):
        if run["prompt"] + run["new"] > _SHORT_TOKENS:
            continue
        for batch, found in run["batches"].items():
            cells = [f"{run['layers']} | {batch} | {_rate(found['rates']['dense']['all'])}"]
            for peer in ("transformers", "llama.cpp"):
                ratio = found["ratios"]["dense"][peer]["all"]["median"]
                cells.append(f"{_rate(found['rates'][peer]['all'])} | {ratio:.1f}")
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def in_process() -> str:
    """Every model beside every peer: a table for each measurement."""
    return "\n\n".join(_in_process(run) for run in _runs("in-process")) or _NOTHING


def _in_process(run: Mapping[str, Any]) -> str:
    rows = [
        "| | parameters | batch | tokens/s | reading | decoding "
        "| times as fast as Transformers | as llama.cpp |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    parameters = run["parameters"] | {
        name: about["parameters"] for name, about in run["peers"].items()
    }
    for batch, found in run["batches"].items():
        for name, rates in found["rates"].items():
            cells = [name, f"{parameters[name]:,}", batch, *map(_rate, rates.values())]
            for peer in ("transformers", "llama.cpp"):
                by_peer = found["ratios"].get(name, {}).get(peer)
                aim = aims.IN_PROCESS.get((name, peer), {}).get(int(batch))
                cells.append(aims.show(by_peer["all"], aim) if by_peer else "")
            rows.append(f"| {' | '.join(cells)} |")
    settings = [
        f"- Batch {batch}: " + "; ".join(f"{name} {how}" for name, how in found["settings"].items())
        for batch, found in run["batches"].items()
    ]
    return (
        f"{run['layers']} layers, prompts of {run['prompt']:,} tokens, {run['new']} new ones, "
        f"{_rounds(run)} ({_conditions(run)}):\n\n"
        + "\n".join(rows)
        + "\n\nThe peers were fastest with:\n\n"
        + "\n".join(settings)
    )


def over_http() -> str:
    """All servers: a table for each measurement."""
    return "\n\n".join(_over_http(run) for run in _runs("http")) or _NOTHING


def _over_http(run: Mapping[str, Any]) -> str:
    peers = list(aims.OVER_HTTP)
    rows = [
        "| | clients | tokens/s | TTFT p50 / p99 | ITL p50 / p99 | "
        + " | ".join(f"times as fast as `{peer}`" for peer in peers)
        + " |",
        "|---|---:|---:|---:|---:|" + "---:|" * len(peers),
    ]
    for n_clients, found in run["clients"].items():
        for name, one in found["servers"].items():
            cells = [name, n_clients, f"{one['tokens_per_second']:,.0f}"]
            cells += [_pair(one["ttft_ms"]), _pair(one["itl_ms"])]
            ratios = found["ratios"].get(name)
            cells += [
                aims.show(ratios[peer], aims.OVER_HTTP[peer]) if ratios else "" for peer in peers
            ]
            rows.append(f"| {' | '.join(cells)} |")
    return (
        f"{run['layers']} layers, prompts of {run['prompt']:,} tokens, {run['new']} new ones, "
        f"{_rounds(run)} ({_conditions(run)}):\n\n" + "\n".join(rows) + "\n\n"
        "`llama-server` was fastest with:\n\n"
        + "\n".join(
            f"- {n_clients} clients: `{found['settings']['llama-server']}`"
            for n_clients, found in run["clients"].items()
        )
    )


def copies() -> str:
    """Copying with the shipped models beside llama.cpp."""
    rows = [
        "| | bytes | clients | tokens/s | with guesses | llama.cpp | with right guesses "
        "| guesses over none | over llama.cpp | over its right guesses |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    runs = list(_runs("copies"))
    if not runs:
        return _NOTHING
    for run in runs:
        for length, by_clients in run["lengths"].items():
            for n_clients, found in by_clients.items():
                cells = [f"`{run['model']}`", f"{int(length):,}", n_clients]
                cells += map(_rate, found["rates"].values())
                cells += [aims.show(ratio, None) for ratio in found["ratios"].values()]
                rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def growth() -> str:
    """Fitted exponents, and bytes of a token."""
    file = RESULTS / "growth.json"
    if not file.exists():
        return _NOTHING
    figures = json.loads(file.read_text(encoding="utf-8"))
    rows = ["| | lengths | exponent | aim, at most |", "|---|---:|---:|---:|"]
    for name, by_length in figures["costs"].items():
        lengths = [int(length) for length in by_length]
        rows.append(
            f"| {name} | {lengths[0]:,} to {lengths[-1]:,} | {figures['exponents'][name]:.3f} "
            f"| {AIM} |"
        )
    held = ["| | bytes of a token in one layer |", "|---|---:|"]
    held += [f"| {name} | {n_bytes:,} |" for name, n_bytes in figures["token_bytes"].items()]
    return "\n".join(rows) + "\n\n" + "\n".join(held)


def _runs(what: str) -> Iterator[dict[str, Any]]:
    """The measurements of a comparison, in the order of their files' names."""
    for file in sorted(RESULTS.glob(f"peers-{what}-*.json")):
        yield json.loads(file.read_text(encoding="utf-8"))


def _conditions(run: Mapping[str, Any]) -> str:
    versions = {
        name: version
        for about in run["peers"].values()
        for name, version in about.items()
        if name != "parameters"
    }
    shown = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{shown}; other programs used {run['other_cores']:.2f} cores meanwhile"


def _rounds(run: Mapping[str, Any]) -> str:
    return "one round" if run["rounds"] == 1 else f"{run['rounds']} rounds"


def _rate(rates: Sequence[float]) -> str:
    return f"{median(rates):,.0f}"


def _pair(percentiles: Mapping[str, float]) -> str:
    return f"{percentiles['p50']:.1f} / {percentiles['p99']:.1f} ms"
