"""Machine code: its loops, and its instructions by what they occupy."""

import re
from collections import Counter
from collections.abc import Iterable

_INSTRUCTION = re.compile(r"\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9]+)([.\w]*)")
EXIT = re.compile(r"\*/\s+EXIT\b")
_FLOAT32 = "FADD", "FMUL", "FFMA"
_PACKED = "FADD2", "FMUL2", "FFMA2"  # two results each
_FLOAT64 = "DADD", "DMUL", "DFMA", "DSETP", "DMNMX"
_INTEGERS = (
    "FMNMX", "FSEL", "FSETP", "IABS", "IADD", "IADD3", "IMAD", "IMNMX", "ISETP", "LEA", "LOP3",
    "PLOP3", "PRMT", "SEL", "SGXT", "SHF", "VIADD", "VIADDMNMX", "VIMNMX",
)  # fmt: skip
_MEMORY = "LDG", "STG", "LDGSTS", "LDS", "STS", "LDSM", "STSM"


def counts(lines: list[str]) -> dict[str, float]:
    """How many instructions of each kind there are.

    Returns:
        "special" functions, "float32", "float64", "integers" (and comparisons), "shuffles", "loads"
        from memory, and "all", instructions; and "words", of 32 bits, that they load and store, in
        shared memory, too. `benchmarks.gpu_rates` has what an SM does of each in a clock.
    """
    found: Counter[str] = Counter()
    words = conversions = copies = 0
    for line in lines:
        if told := _INSTRUCTION.search(line):
            name, how = told.groups()
            found[name] += 1
            copies += name == "IMAD" and ".MOV" in how
            # To and from 64 bits these go where special functions do.
            conversions += name in ("F2F", "F2I", "I2F") and "64" in how
            if name in _MEMORY:
                wide = re.search(r"\.(?:(64|128)\b|M88\.([24]))", how)
                words += (int(wide[1] or 0) // 32 + int(wide[2] or 0)) if wide else 1
    return {
        "special": found["MUFU"] + conversions,
        "float32": sum(found[name] for name in _FLOAT32) + 2 * sum(found[n] for n in _PACKED),
        "float64": sum(found[name] for name in _FLOAT64),
        "integers": sum(found[name] for name in _INTEGERS) - copies,
        "shuffles": found["SHFL"],
        "loads": found["LDG"] + found["LDGSTS"],
        "words": words,
        "all": sum(found.values()) - found["NOP"],
    }


def jumps(lines: list[str]) -> dict[int, int]:
    """Of each line that jumps, the line that it leads to."""
    labels = {line[:-1]: number for number, line in enumerate(lines) if re.match(r"\.L\w+:", line)}
    return {
        number: labels.get(found[1], number)
        for number, line in enumerate(lines)
        if (found := re.search(r"\bBRA\b(?!\.DIV).*`\((\.L\w+)\)", line))
    }


def jumps_back(lines: list[str]) -> list[tuple[int, int]]:
    """Loops: of each line that jumps go back to, that line, and the one after the last of them.

    What stands behind the end of a kernel, and jumps back, is for warps that diverge, or for none.
    """
    return _loops(
        (begin, number + 1)
        for number, begin in jumps(lines).items()
        if begin < number - 1 and not any(map(EXIT.search, lines[begin:number]))
    )


def ptx_jumps_back(lines: list[str]) -> list[tuple[int, int]]:
    """As `jumps_back`, of what the assembler is given, which unrolls no loop."""
    labels = {
        found[1]: number
        for number, line in enumerate(lines)
        if (found := re.match(r"(\$L\w+):", line))
    }
    leads = (
        (labels.get(found[1], number), number + 1)
        for number, line in enumerate(lines)
        if (found := re.search(r"\bbra\S*\s+(\$L\w+)", line))
    )
    return _loops((begin, end) for begin, end in leads if begin < end - 1)


def _loops(found: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    ends: dict[int, int] = {}
    for begin, end in found:
        ends[begin] = max(end, ends.get(begin, 0))
    return list(ends.items())


def inner_loops(loops: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those that have no other one inside."""
    return [
        (begin, end)
        for begin, end in loops
        if not any(begin <= one[0] and one[1] <= end for one in loops if one != (begin, end))
    ]
