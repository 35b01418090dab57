"""Tables of what the engine's benchmarks measured, for the documents."""

import json
from statistics import median
from typing import Any

from benchmarks.figures import RESULTS, read_results, show_failures


def load() -> str:
    """The server over HTTP beside the engine alone, by number of streams."""
    figures = read_results("load")
    rows = [
        "| streams | HTTP tokens/s | engine tokens/s | ratio | TTFT p50 / p99 | ITL p50 / p99 |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for n_streams, one in figures["streams"].items():
        http, alone = one["http"], one["in_process"]
        rows.append(
            f"| {n_streams} | {http['tokens_per_second']:,.0f} | {alone['tokens_per_second']:,.0f} "
            f"| {one['ratio']:.2f} | {_pair(http['ttft_ms'])} | {_pair(http['itl_ms'])} |"
        )
    return f"{_workload(figures)}; TTFT and ITL over HTTP:\n\n" + "\n".join(rows)


def steps() -> str:
    """What a step of decoding spends its time on."""
    figures = read_results("engine")
    rows = [
        "| streams | prompts, tokens/s | decoding, tokens/s | step: scheduling | model | sampling "
        "| delivery |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for n_streams, one in figures["streams"].items():
        decode, parts = one["decode"], one["decode"]["step_ms"]
        spent = " | ".join(
            f"{parts[name]:.2f} ms" for name in ("scheduling", "model", "sampling", "delivery")
        )
        rows.append(
            f"| {n_streams} | {one['prefill']['tokens_per_second']:,.0f} "
            f"| {decode['tokens_per_second']:,.0f} | {spent} |"
        )
    return f"{_workload(figures)}, in process:\n\n" + "\n".join(rows)


def limits() -> str:
    """How far a step of decoding is from the sum of its arithmetic at the machine's limits."""
    figures = read_results("step")
    rows = [
        "| streams | threads | a step | limit: products | reading | pairs | times the limit "
        "| with zeros | aim |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for n_streams, found in figures["streams"].items():
        spent = " | ".join(
            f"{1e6 * found[name]:.0f} µs" for name in ("step", "products", "reading", "pairs")
        )
        aim = figures["aims"].get(n_streams)
        rows.append(
            f"| {n_streams} | {found['threads']} | {spent} | {found['ratio']:.2f} "
            f"| {found['dense_ratio']:.2f} | {'' if aim is None else f'at most {aim}'} |"
        )
    shares = " and ".join(f"{found['share_of_rate']:.0%}" for found in figures["streams"].values())
    return (
        f"`{figures['model']}`, streams that copy prompts of {figures['prompt']:,} tokens:\n\n"
        + "\n".join(rows)
        + f"\n\nThe products reach {shares} of the rate of the same kernel on one matrix in the "
        "first level of caches."
    )


def stall() -> str:
    """A long prompt among decoding streams."""
    figures = read_results("stall")
    ratios = ", ".join(f"{run['largest_ratio']:.1f}" for run in figures["runs"])
    return (
        f"A prompt of {figures['long']:,} tokens arriving among {figures['streams']} decoding "
        f"streams of `{figures['model']}`: the longest gap of any stream, in multiples of that "
        f"stream's median gap, in {len(figures['runs'])} runs: {ratios}."
    )


def overload() -> str:
    """A server with ten times as many clients as it has room for."""
    figures = read_results("overload")
    outcomes = figures["outcomes"]
    refused = sum(n for name, n in outcomes.items() if name != "exact copy")
    return (
        f"{figures['clients']} clients for {figures['seconds']:.0f} s, ten times what the server "
        f"had room for: {outcomes['exact copy']:,} exact copies, {refused:,} refusals with 503 and "
        f"`Retry-After`, {show_failures(figures)}. {_memory(figures)}"
    )


def soak() -> str:
    """Very many short requests, some of them given up."""
    figures = read_results("soak")
    outcomes = figures["outcomes"]
    exact = sum(n for name, n in outcomes.items() if name.endswith(": exact"))
    n_requests = sum(outcomes.values())
    return (
        f"{n_requests:,} requests at {figures['requests_per_second']:,.0f} a second: {exact:,} "
        f"exact, {n_requests - exact:,} given up on purpose, {show_failures(figures)}; "
        f"{figures['preemptions']:,} preemptions, {figures['cached_tokens']:,} tokens found in "
        f"shared pages. {_memory(figures)}"
    )


def compared() -> str:
    """Models beside the one that was the default before, each in the version that served it."""
    files = (json.loads(file.read_text()) for file in RESULTS.glob("compared-*.json"))
    runs = sorted(
        files, key=lambda run: (run["models"]["this"], run["prompt"], run.get("guesses", False))
    )
    rows = [
        "| | tokens in front | guesses | streams | reading, times as fast | decoding |",
        "|---|---:|---|---:|---:|---:|",
    ]
    for run in runs:
        guesses = "yes" if run.get("guesses") else "no"
        for n_streams, ratios in run["ratios"].items():
            reading, decoding = (median(ratios[name]) for name in ("prefill", "decode"))
            rows.append(
                f"| `{run['models']['this']}` | {run['prompt']:,} | {guesses} | {n_streams} "
                f"| {reading:.2f} | {decoding:.2f} |"
            )
    return "\n".join(rows)


def speculation() -> str:
    """The engine with and without guesses."""
    rows = [
        "| | job | streams | without, tokens/s | with, tokens/s | times as fast | right guesses |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for file in sorted(RESULTS.glob("speculation-*.json")):
        figures = json.loads(file.read_text())
        for job, by_streams in figures["jobs"].items():
            for n_streams, found in by_streams.items():
                without, with_guesses = (median(found[name]) for name in ("without", "with"))
                rows.append(
                    f"| `{figures['model']}` | {job} | {n_streams} | {without:,.0f} "
                    f"| {with_guesses:,.0f} | {median(found['ratios']):.2f} "
                    f"| {found['accepted']:,} of {found['drafted']:,} |"
                )
    return "\n".join(rows)


def prefill() -> str:
    """Long prompts on one thread and on all."""
    rows = [
        "| | tokens | one thread | all threads | tokens/s | times as fast |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for file in sorted(RESULTS.glob("prefill-*.json")):
        figures = json.loads(file.read_text())
        for n_tokens, found in figures["lengths"].items():
            one, all_threads = (median(found[name]) for name in ("one_thread", "all_threads"))
            rows.append(
                f"| `{figures['model']}` | {int(n_tokens):,} | {one:.3f} s | {all_threads:.3f} s "
                f"| {int(n_tokens) / all_threads:,.0f} | {median(found['ratios']):.2f} |"
            )
    return "\n".join(rows)


def starts() -> str:
    """How long the server takes to start."""
    figures = read_results("start")
    cold, cached = figures["cold_seconds"], figures["cached_seconds"]
    rows = [
        "| kernels | seconds until it is ready |",
        "|---|---:|",
        f"| compiled by the server alone | {cold['one_process']:.1f} |",
        f"| compiled in parallel | {cold['parallel']:.1f} ({figures['cold_ratio']:.2f} times) |",
        f"| in the cache, median of {len(cached)} | {median(cached):.1f} |",
    ]
    return "\n".join(rows) + (
        f"\n\n`{figures['model']}`. Compiled in parallel, all threads compute after "
        f"{cold['complete']:.1f} s. With all kernels in the cache, the server holds "
        f"{figures['resident_mib']:.0f} MiB of memory after one request."
    )


def _workload(figures: dict[str, Any]) -> str:
    return (
        f"`{figures['model']}`, prompts of {figures['prompt']} tokens, {figures['new']} new ones "
        "each, all sent at once"
    )


def _pair(percentiles: dict[str, float]) -> str:
    return f"{percentiles['p50']:.1f} / {percentiles['p99']:.1f} ms"


def _memory(figures: dict[str, Any]) -> str:
    memory = figures["memory"]
    held = ", ".join(f"{name} {n}" for name, n in figures["held_at_the_end"].items())
    return (
        f"Anonymous memory {memory['first_mib']:.0f} MiB at first, {memory['last_mib']:.0f} MiB at "
        f"last ({memory['slope_mib_per_hour']:+.0f} MiB an hour after the first quarter); held at "
        f"the end: {held}."
    )
