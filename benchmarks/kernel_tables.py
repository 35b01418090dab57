"""Shows what `benchmarks.kernels` measured."""

from pathlib import Path

from benchmarks.figures import read_results


def kernels(_: Path) -> str:
    """Shares of the limit, by channels and length, on one thread and on all."""
    figures = read_results("kernels")
    threads = sorted({cell["threads"] for cell in figures["whole"]})
    names = {1: "one thread"}
    columns = [
        (phase, n, f"{phase}, {names.get(n, f'{n} threads')}")
        for phase in ("forward", "backward")
        for n in threads
    ]
    pools = list(dict.fromkeys(cell["pool"] for cell in figures["extend"]))
    reads = [f"extend, {pool}, {how}" for pool in pools for how in ("warm", "cold")]
    head = ["K", "T, S", *(title for *_, title in columns), *reads]
    rows = [f"| {' | '.join(head)} |", "|" + "---:|" * len(head)]
    whole = {(cell["K"], cell["T"], cell["threads"]): cell for cell in figures["whole"]}
    read = {(cell["K"], cell["S"], cell["pool"]): cell for cell in figures["extend"]}
    for k, length in dict.fromkeys((k, length) for k, length, _ in read):
        shares = [whole[k, length, n][phase] for phase, n, _ in columns]
        shares += [read[k, length, pool][how] for pool in pools for how in ("warm", "cold")]
        rows.append(
            f"| {k} | {length:,} | " + " | ".join(f"{share:.0%}" for share in shares) + " |"
        )
    return "\n".join(rows) + (
        "\n\nMore than 100 % is possible: a table takes fewer operations than the polynomial. T is "
        "the length of whole sequences, several at once; S is the pool of one new token. Shares "
        f"differ between processors; these are of one {figures['machine']}."
    )


def keyed_kernels(_: Path) -> str:
    """What a pair of the blunt keyed relation costs, by channels and length."""
    cells = read_results("kernels")["keyed"]
    lengths = sorted({cell["S"] for cell in cells})
    rows = [
        f"| keys, values | {' | '.join(f'S {length:,}' for length in lengths)} |",
        "|---|" + "---:|" * len(lengths),
    ]
    for widths in dict.fromkeys((cell["d_key"], cell["d_value"]) for cell in cells):
        here = [cell for cell in cells if (cell["d_key"], cell["d_value"]) == widths]
        costs = " | ".join(f"{cell['exponentials']:.0f}" for cell in here)
        rows.append(f"| {widths[0]}, {widths[1]} | {costs} |")
    return "\n".join(rows)
