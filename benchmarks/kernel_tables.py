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
    head = ["K", "T, S", *(title for *_, title in columns), "extend, warm", "cold"]
    rows = [f"| {' | '.join(head)} |", "|" + "---:|" * len(head)]
    whole = {(cell["K"], cell["T"], cell["threads"]): cell for cell in figures["whole"]}
    for cell in figures["extend"]:
        k, length = cell["K"], cell["S"]
        shares = [whole[k, length, n][phase] for phase, n, _ in columns]
        shares += [cell["warm"], cell["cold"]]
        rows.append(
            f"| {k} | {length:,} | " + " | ".join(f"{share:.0%}" for share in shares) + " |"
        )
    return "\n".join(rows) + (
        "\n\nMore than 100 % is possible: a table takes fewer operations than the polynomial. T is "
        "the length of whole sequences, several at once; S is the pool of one new token."
    )
