"""What the kernels of devices become for GPUs that need not be there. Nothing is measured.

    python -m benchmarks.machine_code [--targets 80,89,90,100] [--output FILE]

Triton compiles each kernel, with each tile that its launcher may choose, for each compute
capability. What is told of it: registers of a thread; bytes that do not fit into them (spills);
bytes of shared memory; warps that an SM can hold; and how many instructions there are that compute
exponentials, and in inner loops, in float64. Of kernels that are there for exponentials it tells
what stands in the loop around them, for each pair and channel, and what that comes to by the rates
of data sheets (`benchmarks.gpu_rates`). Where pairs go over their channels more than once, it is
all of these loops together, and what is done for each pair besides. The last line is JSON.
"""

import inspect
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from benchmarks import gpu_rates
from benchmarks.figures import arguments, integers, publish, start
from model.ops.attention import gpu as attention
from model.ops.embedding import gpu as embedding
from model.ops.gpu import linear
from model.ops.logits import gpu as logits
from model.ops.logits import gpu_sampling as sampling
from model.ops.norm import gpu as norm
from model.ops.relation import gpu as relation
from model.ops.relation import gpu_channels as rows
from model.ops.relation import gpu_keyed as keyed
from model.ops.relation import gpu_keyed_whole as keyed_whole
from model.ops.relation import gpu_separable as separable
from model.ops.relation import gpu_whole as whole
from model.ops.token_shift import gpu as token_shift
from model.ops.token_shift import gpu_whole as shift_whole

_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
_INT_ARRAYS = (
    "active", "block_tables", "context_lens", "indices", "owners", "phases", "reaches", "rows",
    "slots", "starts", "state_tables", "token_ids",
)  # fmt: skip
_FLOAT_ARRAYS = (
    "a", "a_keys", "a_totals", "a_values", "b", "b_keys", "b_totals", "b_values", "bias",
    "by_sequence", "change", "full", "g", "keys", "logits", "lowers", "match", "matches",
    "memories", "moments", "out", "part", "partials", "phase_vectors", "pool", "projected",
    "readers", "scores", "tails", "taps", "temperature", "tokens", "totals", "turned", "values",
    "weight", "weights", "x", "z",
)  # fmt: skip
_POOL = "pool", "keys", "values"
_BFLOAT16 = "*i16"  # to Triton
_SIZES = "n_channels", "page_size"  # usually divisible by 16
FLOAT32 = ("FADD", "FMUL", "FFMA", "FSEL", "FSETP", "FMNMX")
PACKED = ("FADD2", "FMUL2", "FFMA2")  # two results each
CHANNELS = 128  # of a pair, which what is done once for it is shared by

_TYPES = {
    **dict.fromkeys(_INT_ARRAYS, "*i32"),
    **dict.fromkeys(_FLOAT_ARRAYS, "*fp32"),
    "before": "*i64",
    "bests": "*fp64",
    "changes": "*fp64",
    "chosen": "*i64",
    "energies": "*fp64",
    "eps": "fp32",
    "scale": "fp32",
    "found": "*fp64",
    "likeliest": "*i64",
    "shares": "*fp64",
    "slopes": "*fp64",
    "whole": "*i64",
}
"""Of arguments by their names; all others are int32."""


@dataclass(frozen=True)
class Variant:
    """A kernel with one of its tiles.

    Attributes:
        kernel: as Triton has it.
        constants: by the names of its arguments.
        places: the type of the argument of that name, which kernels do not agree on.
        aligned: whether the addresses of all arrays are divisible by 16: Triton makes another
            kernel for them.
        sizes: names of integers that are, too.
        pool: the type of memories in the pool: `*i16` stands for bfloat16.
        sums: the type of the argument of that name.
    """

    kernel: Any
    constants: dict[str, Any]
    places: str = "*i32"
    aligned: bool = False
    sizes: tuple[str, ...] = ()
    pool: str = "*fp32"
    sums: str = "*fp64"

    @property
    def name(self) -> str:
        """The kernel and its constants."""
        shown = ", ".join(f"{name} {value:g}" for name, value in self.constants.items())
        home = self.kernel.fn.__module__.removeprefix("model.ops.")
        more = ", aligned" * self.aligned + ", bfloat16" * (self.pool != "*fp32")
        return f"{home}.{self.kernel.__name__}, {shown}{more}"


def variants() -> Iterator[Variant]:
    """Every kernel, with tiles for up to 1,024 channels."""
    segment = {"SEGMENT": relation.SEGMENT}
    for channels in (16, 32, 64, 128, 256, 512, 1024):
        tile = {"CHANNELS": channels} | relation.run_of(channels)
        yield Variant(relation.relate, tile | segment | {"WHOLE": False})
        for pool in ("*fp32", _BFLOAT16):
            whole_tile = tile | segment | {"WHOLE": True}
            yield Variant(relation.relate, whole_tile, aligned=True, sizes=_SIZES, pool=pool)
    for channels in (16, 128, 1024):
        for flag in (False, True):
            yield Variant(rows.turn, {"DIVIDES": flag} | rows.tile_of(channels))
            yield Variant(rows.turn_back, {"CENTRES": flag} | rows.tile_of(channels))
    # Their arrays are made for them, and aligned.
    yield Variant(whole.relate_whole, whole.RELATION_TILE | segment, aligned=True)
    for of_readers in (True, False):
        changed = {"OF_READERS": of_readers} | whole.GRADIENT_TILE
        yield Variant(whole.add_gradients, changed, aligned=True)
    for channels in (64, 1024):
        width = {"CHANNELS": channels}
        yield Variant(relation.combine, width | segment)
        for kernel in (relation.append, token_shift.shift):
            yield Variant(kernel, width)
        yield Variant(relation.append, width, pool=_BFLOAT16)
        for exp in (False, True):
            yield Variant(norm.normalize_rows, {"EXP": exp} | norm.rows_of(channels))
        yield Variant(norm.change_rows, norm.rows_of(channels))
        for has in (False, True):
            tables = {"HAS_PLACES": has, "HAS_PHASES": has}
            yield Variant(embedding.embed_rows, width | tables, places="*fp32")
    yield from _keyed_variants(segment)
    for channels in (16, 256, 1024):
        width = {"CHANNELS": channels}
        yield Variant(attention.remember, width)
        yield Variant(attention.attend, width | segment | {"RUN": attention.run_of(channels)})
        yield Variant(attention.combine, width | segment)
        yield Variant(attention.sum_keys, width, sums="*fp32")
        with_values = width | {"VALUES": attention.values_of(channels)}
        yield Variant(attention.attend_linearly, with_values, sums="*fp32")
    yield Variant(separable.scan, {"CHANNELS": 32})
    for kept in (1, 16, 64):
        channels = min(1024, token_shift.TAIL_NUMBERS // kept)
        yield Variant(token_shift.keep_tails, {"KEPT": kept, "CHANNELS": channels})
    tile = {"ROWS": shift_whole.ROWS, "CHANNELS": shift_whole.CHANNELS}
    for kernel in (
        shift_whole.shift_whole, shift_whole.add_token_gradients, shift_whole.add_tap_gradients,
    ):  # fmt: skip
        yield Variant(kernel, tile)
    for n_logits in (32, 512, 1024):
        yield Variant(logits.find_likeliest, {"LOGITS": n_logits})
        yield Variant(sampling.draw, {"LOGITS": n_logits})
    tile = {"ROWS": linear.ROWS, "OUT": linear.OUT, "IN": linear.IN} | linear.OPTIONS
    for gathers, has_bias, gelu, adds in (
        (False, True, False, False), (False, False, False, False), (False, True, True, False),
        (False, True, False, True), (True, False, False, False),
    ):  # fmt: skip
        how = {"GATHERS": gathers, "HAS_BIAS": has_bias, "GELU": gelu, "ADDS": adds}
        yield Variant(linear.product, how | tile)


def _keyed_variants(segment: dict[str, int]) -> Iterator[Variant]:
    """Those of keyed relations: blunt, sharp, and such as shipped checkpoints use for recalls."""
    numbers = {"RECENCY": 0.0, "TOLERANCE": 0.0, "EPS": 1e-6}
    recall = {"RECENCY": 1e4, "TOLERANCE": 1.4, "EPS": 1e-6}
    for n_values in (16, 128, 512):
        width = {"VALUES": n_values}
        for blunt, speaks, told, constants in (
            (True, False, True, numbers), (True, True, False, numbers),
            (False, True, False, numbers), (False, True, False, numbers | {"RECENCY": 1.0}),
            (False, False, True, numbers), (False, False, True, recall),
        ):  # fmt: skip
            form = {"SPEAKS": speaks, "BLUNT": blunt}
            surveyed, read = keyed.tiles_of(128, n_values, **form)
            how = form | constants | segment
            for pool in ("*fp32", _BFLOAT16) if n_values == 128 else ("*fp32",):
                yield Variant(keyed.survey, how | surveyed | {"TELLS": told}, pool=pool)
                yield Variant(keyed.read, how | read, pool=pool)
        yield Variant(keyed.combine, {"TELLS": True} | width | segment)
        for pool in ("*fp32", _BFLOAT16):
            tied = {"SIGN": -1.0, "TOLERANCE": 0.0, "KEYS": 128}
            yield Variant(keyed.append, tied | width, pool=pool)
    yield Variant(keyed.note_found, {"SOURCE": 0})
    for n_values, speaks, constants in (
        (128, True, numbers), (128, False, numbers), (512, False, recall),
    ):  # fmt: skip
        how = {"SPEAKS": speaks} | constants | keyed_whole.keyed_tile(128, n_values)
        yield Variant(keyed_whole.relate_keyed, how)
        for of_readers in (True, False):
            yield Variant(keyed_whole.add_keyed_gradients, {"OF_READERS": of_readers} | how)
    yield Variant(keyed_whole.sum_values, {"VALUES": 512})


def compiled(variant: Variant, target: int) -> dict[str, Any]:
    """What a kernel becomes for a compute capability, such as 90 for 9.0."""
    constants = dict(variant.constants)
    options = {"num_warps": constants.pop("num_warps", 4)}
    if "maxnreg" in constants:
        options["maxnreg"] = constants.pop("maxnreg")
    names = variant.kernel.arg_names
    types = _TYPES | {"places": variant.places, "sums": variant.sums}
    types |= dict.fromkeys(_POOL, variant.pool)
    signature = {
        name: "constexpr" if name in constants else types.get(name, "i32") for name in names
    }
    given = {(names.index(name),): value for name, value in constants.items()}
    aligned = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(names)
        if (variant.aligned and signature[name].startswith("*")) or name in variant.sizes
    }
    source = ASTSource(variant.kernel, signature, constexprs=given, attrs=aligned)
    made = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        usage = _tell("cuobjdump", "-res-usage", file.name)
        # A disassembly takes as long as all else, and most kernels need none.
        needs_lines, needs_loop = "OWN" in constants, variant.kernel is relation.relate
        code, ptx = "", made.asm["ptx"]
        if needs_lines or needs_loop or ".f64" in ptx:
            code = _tell("nvdisasm", "-c", *["-g"] * needs_lines, file.name)
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", usage)
    if found is None:
        raise ValueError(f"cuobjdump tells nothing of {variant.name}: {usage}")
    registers, stack, local = map(int, found.groups())
    # cuobjdump tells what a kernel has from the start, and this is asked for when it is launched.
    shared, warps = made.metadata.shared, options["num_warps"]
    loop = None
    if needs_lines:
        pairs = constants["OWN"] * constants["RUN"] // (32 * warps)
        loop = per_pair(code, target, pairs, _functions(variant.kernel))
    elif needs_loop:
        loop = per_exponential(code, target)
    return {
        "registers": registers,
        "spilled": stack + local,
        "shared": shared,
        "warps_per_sm": warps_per_sm(registers, shared, warps, target),
        "loop": loop,
        "exponentials": len(re.findall(r"\bex2\.", ptx)),
        "float64_in_loops": sum(map(_float64, loops(code))),
    }


def _tell(tool: str, *arguments: str) -> str:
    done = subprocess.run([_TOOLS / tool, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def loops(code: str) -> Iterator[str]:
    """The parts of a disassembly that a jump goes back over, and that have no such part inside."""
    lines = code.splitlines()
    last = 0
    for begin, end in _jumps_back(lines):
        if last <= begin < end - 2:
            yield "\n".join(lines[begin:end])
            last = end


def _jumps_back(lines: list[str]) -> list[tuple[int, int]]:
    """From the lines that jumps go back to, to those after the jumps, in the order of jumps."""
    return [(begin, number + 1) for number, begin in _jumps(lines).items() if begin < number]


def _jumps(lines: list[str]) -> dict[int, int]:
    labels = {line[:-1]: number for number, line in enumerate(lines) if re.match(r"\.L\w+:", line)}
    return {
        number: labels.get(found[1], number)
        for number, line in enumerate(lines)
        if (found := re.search(r"\bBRA\b(?!\.DIV).*`\((\.L\w+)\)", line))
    }


def per_exponential(code: str, target: int) -> dict[str, float]:
    """What stands in the loop around the exponentials of a kernel, for each of them.

    A part of the loop that a jump may leave out, and that has no exponentials, is taken for rare:
    what is not exact enough is done again there.

    Returns:
        Numbers of instructions: special functions, exponentials among them; those of the FP32
        units; shuffles; loads from memory; all. Numbers of 32 bits that are loaded and stored,
        "words". And `share`: what the rates of the compute capability leave of the rate of bare
        exponentials.
    """
    lines = code.splitlines()
    jumps = _jumps(lines)
    around = [
        (begin, end)
        for end, begin in jumps.items()
        if any("MUFU.EX2" in line for line in lines[begin:end])
        # What stands behind the end of a kernel, and jumps back, is for warps that diverge.
        and not any(re.search(r"\*/\s+EXIT\b", line) for line in lines[begin:end])
    ]
    begin, end = min(around, key=lambda loop: loop[1] - loop[0])
    counted = []
    number = begin
    while number <= end:
        target_line = jumps.get(number, number)
        skipped = lines[number:target_line]
        if number < target_line <= end and not any("MUFU.EX2" in line for line in skipped):
            number = target_line
            continue
        counted.append(lines[number])
        number += 1
    counts = _counts(counted)
    n = sum("MUFU.EX2" in line for line in counted)
    each = {name: count / n for name, count in counts.items()}
    return each | {"share": gpu_rates.share(each, target)}


def per_pair(
    located: str, target: int, pairs: int, functions: dict[str, range]
) -> dict[str, float]:
    """What a pair and channel takes, where pairs go over their channels in several loops.

    All inner loops in which pairs are added up count, each by the pairs and channels that it adds
    up: they are told by the function `_pair`. So does the rest of the loop around them, by the
    pairs of a run and `CHANNELS`. What functions `..._with_care` do, and such loops, is rare.

    Args:
        located: a disassembly that tells the lines of the source.
        pairs: of a thread and run.
        functions: the lines of each function of the kernel's file.

    Returns:
        As for `per_exponential`. A pair and channel has one exponential.
    """
    lines = located.splitlines()
    where = _locations(lines, functions)
    nested = {
        loop: [other for other in _jumps_back(lines) if loop[0] <= other[0] and other[1] < loop[1]]
        for loop in _jumps_back(lines)
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
    counts: Counter[str] = Counter()
    for (begin, end), n in added.items():
        if n and not any(map(_is_rare, where[begin:end])):
            counts.update({name: n_of / n for name, n_of in _counts(lines[begin:end]).items()})
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
    counts.update({name: count / shared for name, count in _counts(rest).items()})
    return dict(counts) | {"share": gpu_rates.share(counts, target)}


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


def _functions(kernel: Any) -> dict[str, range]:
    """The lines of each function of a kernel's file that Triton compiles."""
    found = {}
    for name, one in vars(inspect.getmodule(kernel.fn)).items():
        if isinstance(one, triton.JITFunction) and one.fn.__module__ == kernel.fn.__module__:
            lines, first = inspect.getsourcelines(one.fn)
            found[name] = range(first, first + len(lines))
    return found


def _counts(lines: list[str]) -> dict[str, int]:
    """How many instructions of each kind there are; see `per_exponential`."""
    counts: Counter[str] = Counter()
    words = 0
    for line in lines:
        if found := re.search(r"\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9]+)([.\w]*)", line):
            counts[found[1]] += 1
            if found[1] in ("LDG", "STG", "LDS", "STS"):
                wide = re.search(r"\.(64|128)\b", found[2])
                words += int(wide[1]) // 32 if wide else 1
    return {
        "special": counts["MUFU"],
        "float32": sum(counts[name] for name in FLOAT32) + 2 * sum(counts[n] for n in PACKED),
        "shuffles": counts["SHFL"],
        "loads": counts["LDG"],
        "words": words,
        "all": sum(counts.values()),
    }


def warps_per_sm(registers: int, shared: int, warps: int, target: int) -> int:
    """How many warps of a kernel an SM can hold at once."""
    sm = gpu_rates.SMS[target]
    by_registers = sm.registers // (32 * warps * -(-registers // 8) * 8)
    by_shared = sm.shared // shared if shared else by_registers
    return warps * min(by_registers, by_shared, sm.warps // warps, sm.blocks)


def _float64(code: str) -> int:
    return len(re.findall(r"\b(?:DADD|DMUL|DFMA|DSETP|MUFU\.\w+64H)\b", code))


def measure(targets: list[int], tell: Callable[[str], object]) -> dict[str, Any]:
    """All figures, as JSON-ready values."""
    kernels = {}
    for variant in variants():
        kernels[variant.name] = found = {target: compiled(variant, target) for target in targets}
        last = found[targets[-1]]
        loop = last["loop"]
        told = f", {loop['share']:.0%} of bare exponentials" if loop else ""
        tell(f"{variant.name}: {last['registers']} registers{told}")
    return {"triton": triton.__version__, "channels": CHANNELS, "kernels": kernels}


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    parser.add_argument(
        "--targets",
        type=integers,
        default=[80, 89, 90, 100],
        help="compute capabilities, without the point; default 80,89,90,100",
    )
    options = parser.parse_args()
    figures = measure(options.targets, lambda line: print(line, flush=True))
    publish(figures, options.output)


if __name__ == "__main__":
    start(main)
