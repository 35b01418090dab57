"""What a kernel takes for each unit of its work, such as a pair and channel: counted, not measured.

All functions return numbers of instructions, and of words, by kind (`benchmarks.disassembly`).
"""

import re
from collections import Counter
from collections.abc import Callable, Collection

from benchmarks.disassembly import EXIT, counts, inner_loops, jumps, jumps_back, ptx_jumps_back

CHANNELS = 128  # of a pair, which what is done once for it is shared by

_SLOW = 24  # lines, at most, that a jump leads over, if they are for the call of a function


def unrolled(code: str, ptx: str) -> int:
    """How many passes of the inner loop that loads most the assembler made one of."""

    def most(lines: list[str], loops: list[tuple[int, int]], loads: str) -> int:
        inner = inner_loops(loops)
        return max((len(re.findall(loads, "\n".join(lines[a:b]))) for a, b in inner), default=0)

    made, written = code.splitlines(), ptx.splitlines()
    n_made = most(made, jumps_back(made), r"\bLDG\b")
    n_written = most(written, ptx_jumps_back(written), r"\bld\.global\b")
    return max(1, round(n_made / n_written)) if n_written else 1


def per_exponential(code: str) -> dict[str, float]:
    """What stands in the loop around the exponentials of a kernel, for each of them.

    A part of the loop that a jump may leave out, and that has no exponentials, is taken for rare:
    what is not exact enough is done again there.
    """
    lines = code.splitlines()
    around = [
        loop
        for loop in jumps_back(lines)
        if any("MUFU.EX2" in line for line in lines[slice(*loop)])
    ]
    begin, end = min(around, key=lambda loop: loop[1] - loop[0])
    counted = _without(
        lines, begin, end, lambda skipped: not any("MUFU.EX2" in line for line in skipped)
    )
    n = sum("MUFU.EX2" in line for line in counted)
    return {name: count / n for name, count in counts(counted).items()}


def per_unit(code: str, part: str, rare: str, n_units: float, passes: int) -> dict[str, float]:
    """What a part of a kernel takes for each unit of work.

    Args:
        code: a disassembly.
        part: "loop", the largest inner one; "loops", the largest of all and those in it; "kernel",
            all of it, up to its end, but loops that load.
        rare: what no unit takes of what a jump may leave out: "float64", what has any of it, but
            for nearly the whole part; "jumps", everything; or "", no more than functions that are
            called, for quotients that float64 needs more care for.
        n_units: of a thread, in a pass of that part.
        passes: of inner loops, in a pass of that part.
    """
    lines = code.splitlines()
    back = jumps_back(lines)
    inner = [
        (begin, end) for begin, end in back
        if not any(begin <= one[0] and one[1] <= end for one in back if one != (begin, end))
    ]  # fmt: skip
    if part == "kernel":
        begin, end = 0, next(n for n, line in enumerate(lines) if EXIT.search(line)) + 1
        inner = [loop for loop in inner if loop[1] <= end]
    else:
        begin, end = max(inner if part == "loop" else back, key=lambda loop: loop[1] - loop[0])
        inner = [loop for loop in inner if begin <= loop[0] and loop[1] <= end and part == "loops"]

    def is_rare(skipped: list[str]) -> bool:
        if rare == "jumps":
            return True
        if rare == "float64" and len(skipped) < 0.9 * (end - begin) and counts(skipped)["float64"]:
            return True
        return len(skipped) <= _SLOW and any("CALL" in line for line in skipped)

    looped = {number for loop in inner for number in range(*loop)}
    rest = _without(lines, begin, end, is_rare, looped)
    found = Counter(counts(rest))
    for loop in inner:
        own = counts(lines[slice(*loop)])
        if part == "loops" or not own["loads"]:
            found.update({name: passes * count for name, count in own.items()})
    return {name: count / n_units for name, count in found.items()}


def _without(
    lines: list[str],
    begin: int,
    end: int,
    is_rare: Callable[[list[str]], bool],
    others: Collection[int] = (),
) -> list[str]:
    """Lines from `begin` to `end`, without rare ones that a jump leaves out, and without others."""
    leads = jumps(lines)
    kept = []
    number = begin
    while number < end:
        to = leads.get(number, number)
        if number not in others:
            if number < to < end and is_rare(lines[number + 1 : to]):
                number = to
                continue
            kept.append(lines[number])
        number += 1
    return kept


def per_pair(located: str, pairs: int, functions: dict[str, range]) -> dict[str, float]:
    """What a pair and channel takes, where pairs go over their channels in several loops.

    All inner loops in which pairs are added up count, each by the pairs and channels that it adds
    up: they are told by the function `_pair`. So does the rest of the loop around them, by the
    pairs of a run and `CHANNELS`. What functions `..._with_care` do, and such loops, is rare.

    Args:
        located: a disassembly that tells the lines of the source.
        pairs: of a thread and run.
        functions: the lines of each function of the kernel's file.
    """
    lines = located.splitlines()
    where = _locations(lines, functions)
    nested = {
        loop: [other for other in jumps_back(lines) if loop[0] <= other[0] and other[1] < loop[1]]
        for loop in jumps_back(lines)
    }
    added = {
        (begin, end): sum(
            2 if "FADD2" in line else "FADD" in line
            for line, function in zip(lines[begin:end], where[begin:end], strict=True)
            if function == "_pair"
        )
        for (begin, end), inside in nested.items()
        if not inside
    }
    found: Counter[str] = Counter()
    for (begin, end), n in added.items():
        if n and not any(map(_is_rare, where[begin:end])):
            found.update({name: n_of / n for name, n_of in counts(lines[begin:end]).items()})
    around = [
        loop for loop, inside in nested.items() if any(added.get(other) for other in inside)
    ]  # fmt: skip
    begin, end = min(around, key=lambda loop: loop[1] - loop[0])
    within = {number for loop in nested[begin, end] for number in range(*loop)}
    rest = [
        lines[number]
        for number in range(begin, end)
        if number not in within and not _is_rare(where[number])
    ]
    shared = pairs * CHANNELS
    found.update({name: count / shared for name, count in counts(rest).items()})
    return dict(found)


def _is_rare(function: str) -> bool:
    return function.endswith("_with_care") or function == "_centred"


def _locations(lines: list[str], functions: dict[str, range]) -> list[str]:
    """The function that each line of a disassembly comes from, or nothing."""
    found, now = [], ""
    for line in lines:
        if told := re.search(r'//## File ".*/(\w+)\.py", line (\d+)', line):
            names = [name for name, span in functions.items() if int(told[2]) in span]
            now = names[0] if names else ""
        found.append(now)
    return found
