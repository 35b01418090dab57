"""Tables of what the benchmarks of sessions measured, for the documents."""

from benchmarks.figures import read_results, show_failures, show_ms
from benchmarks.session_visits import RECENT, RECENT_SHARE


def crashes() -> str:
    """A server that is killed over and over."""
    figures = read_results("crash")
    n, ready = figures["counts"], figures["ready_ms"]
    starting = n.get("kills while starting", 0)
    rows = [
        ("kills with SIGKILL, of these while it started", f"{n['kills'] + starting}, {starting}"),
        ("turns, of these interrupted by a kill", _counts(n, "turns", "turns interrupted")),
        ("tokens acknowledged to clients", _counts(n, "tokens acknowledged")),
        (
            "comparisons after a restart: logs, tokens in them",
            _counts(n, "sessions checked", "tokens checked"),
        ),
        ("acknowledged tokens missing", f"{figures['missing']:,}"),
        ("tokens that would not have come without a kill", f"{figures['invented']:,}"),
        (
            "tokens committed, but not read by a client before the kill",
            _counts(n, "tokens beyond the acknowledged"),
        ),
        (
            "turns gone on with, tokens in them as without a kill",
            _counts(n, "turns gone on with", "tokens gone on with"),
        ),
        ("exact copies", f"{_counts(n, 'exact copies')} of {n['turns']:,}"),
        (
            "from the kill until it served again, median and longest",
            f"{ready['p50'] / 1e3:.1f} s, {ready['p100'] / 1e3:.1f} s",
        ),
    ]
    lines = ["| | |", "|---|---:|", *(f"| {what} | {value} |" for what, value in rows)]
    title = f"`{figures['model']}`, {figures['store']}, {show_failures(figures)}:"
    return "\n".join([title, "", *lines])


def visits() -> str:
    """Many more sessions than the pool holds."""
    figures = read_results("sessions")
    orders = figures["visits"]
    first = orders[0]
    lines = [
        f"{first['sessions']:,} sessions of {first['turns'] // first['sessions']} turns, texts of "
        f"up to {figures['longest']} tokens, in a pool that holds {first['warm_at_most']} whole "
        f"ones; in the skewed order {RECENT_SHARE:.0%} of the visits go to the {RECENT} used last. "
        f"All times include HTTP and the commits.",
        "",
        "| order | turns | evictions | found warm | first token, warm: p50 / p95 / p99 | cold |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {one['order']} | {one['turns']:,} | {one['evictions']:,} | {one['hit_rate']:.1%} "
        f"| {_ms(one['times']['warm']['first_ms'])} | {_ms(one['times']['cold']['first_ms'])} |"
        for one in orders
    ]
    lines += [
        "",
        "Whole turns in random order, by the tokens that the session had:",
        "",
        "| tokens before | warm: p50 / p95 / p99 | cold |",
        "|---:|---:|---:|",
    ]
    lines += [
        f"| {one['tokens_before']:,.0f} | {_ms(one['warm']['turn_ms'])} "
        f"| {_ms(one['cold']['turn_ms'])} |"
        for one in first["by_turn"].values()
    ]
    held = ", ".join(f"{name} {n}" for name, n in first["held_at_the_end"].items())
    outcomes = ", ".join(f"{n:,} {what}" for what, n in figures["outcomes"].items())
    lines += [
        "",
        f"Answers of the whole program: {outcomes}; {show_failures(figures)}. After all sessions "
        f"were deleted the server held: {held}. Its anonymous memory: "
        f"{first['memory']['first_mib']:.0f} MiB before, {first['memory']['last_mib']:.0f} MiB "
        "after.",
    ]
    return "\n".join(lines)


def forks() -> str:
    """Children of one long session."""
    one = read_results("sessions")["forks"]
    pages = one["pages"]
    return (
        f"{one['children']} children of a session of {one['parent_tokens']:,} tokens, "
        f"{one['fork_ms']:.1f} ms each: {pages['parent']} pages before, {pages['forked']} when all "
        f"were there. After a turn of each, {pages['after_a_turn_each']:,}: the pool grew by "
        f"{_mb(one['grown_bytes'])} for {one['own_tokens']:,} tokens of their own, "
        f"{_mb(one['own_bytes'])} (the rest is what their last pages hold besides: the parent's "
        f"last tokens, and room). Memory that they did not have to repeat: "
        f"{_mb(one['unshared_bytes'])}."
    )


def streams() -> str:
    """Streams in sessions beside streams without."""
    figures = read_results("sessions")
    measured = figures["streams"]
    rows = [
        "| streams | in sessions | without | ratio | a turn in a session: p50 / p95 / p99 "
        "| without |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    rows += [
        f"| {n} | {one['in_sessions']['tokens_per_second']:,.0f} tokens/s "
        f"| {one['without']['tokens_per_second']:,.0f} tokens/s | {one['ratio']:.2f} "
        f"| {_ms(one['in_sessions']['turn_ms'])} | {_ms(one['without']['turn_ms'])} |"
        for n, one in measured["streams"].items()
    ]
    flush = f" One flush of this disk takes {figures['flush_ms']:.2f} ms."
    return (
        f"{figures['store']}, turns of {measured['tokens']} tokens read and as many written, "
        f"{measured['repeats']} runs of each by turns, medians."
        f"{flush if figures['store'] == 'SQLite' else ''}\n\n" + "\n".join(rows)
    )


def lengths() -> str:
    """Warm, cold and restored sessions, by length."""
    figures = read_results("sessions")["lengths"]
    rows = [
        "| tokens | first token, warm | cold | restored | snapshot | save | restore "
        "| read anew | restore is faster |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for n, one in figures.items():
        ms = {name.removesuffix("_ms"): one[name]["p50"] for name in one if name.endswith("_ms")}
        size = one["snapshot_bytes"]
        rows.append(
            f"| {int(n):,} | {ms['warm']:.1f} ms | {ms['cold']:.1f} ms | {ms['restored']:.1f} ms "
            f"| {_mb(size)} | {ms['save']:.1f} ms, {_rate(size, ms['save'])} "
            f"| {ms['restore']:.1f} ms, {_rate(size, ms['restore'])} | {ms['read']:.1f} ms "
            f"| {ms['read'] / ms['restore']:.1f} times |"
        )
    return "Medians, over HTTP, alone on the server:\n\n" + "\n".join(rows)


def _counts(counts: dict[str, int], *names: str) -> str:
    return ", ".join(f"{counts.get(name, 0):,}" for name in names)


def _ms(percentiles: dict[str, float]) -> str:
    shown = show_ms(percentiles)
    return f"{shown} ms" if percentiles else shown


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _rate(size: int, ms: float) -> str:
    return f"{size / 1e3 / ms:,.0f} MB/s"
