"""A kernel of devices with one of its tiles, compiled for GPUs that need not be there."""

from dataclasses import dataclass
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from benchmarks.kernel_work import Work

BFLOAT16 = "*i16"  # to Triton

_INT_ARRAYS = (
    "active", "block_tables", "context_lens", "indices", "owners", "phases", "reaches", "rows",
    "slots", "starts", "state_tables", "token_ids",
)  # fmt: skip
_FLOAT_ARRAYS = (
    "a", "a_keys", "a_totals", "a_values", "b", "b_keys", "b_totals", "b_values", "bias",
    "by_sequence", "change", "da", "db", "full", "g", "keys", "logits", "lowers", "match",
    "matches", "memories", "moments", "out", "part", "partials", "phase_vectors", "pool",
    "projected", "readers", "scores", "tails", "taps", "temperature", "tokens", "totals", "turned",
    "values", "weight", "weights", "x", "z",
)  # fmt: skip
_POOL = "pool", "keys", "values"
_OPTIONS = "maxnreg", "enable_fp_fusion"
_SIZES = (
    "d", "d_token", "first", "n_channels", "n_in", "n_keys", "n_logits", "n_out", "n_said",
    "n_shifted", "n_values", "page_size",
)  # fmt: skip

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
        aligned: whether the addresses of all arrays, and all sizes that can be, are divisible by
            16, as usual: Triton makes another kernel for them.
        pool: the type of memories in the pool: `*i16` stands for bfloat16.
        sums: the type of the argument of that name.
        works: what it does, if it is told what that takes.
    """

    kernel: Any
    constants: dict[str, Any]
    places: str = "*i32"
    aligned: bool = False
    pool: str = "*fp32"
    sums: str = "*fp64"
    works: tuple[Work, ...] = ()

    @property
    def name(self) -> str:
        """The kernel and its constants."""
        shown = ", ".join(f"{name} {value:g}" for name, value in self.constants.items())
        home = self.kernel.fn.__module__.removeprefix("causalrn.model.ops.")
        more = ", aligned" * self.aligned + ", bfloat16" * (self.pool != "*fp32")
        return f"{home}.{self.kernel.__name__}, {shown}{more}"

    @property
    def n_warps(self) -> int:
        """Of a program."""
        return int(self.constants.get("num_warps", 4))

    def compile(self, target: int) -> Any:
        """What Triton makes of it for a compute capability, such as 90 for 9.0."""
        constants = dict(self.constants)
        options = {"num_warps": constants.pop("num_warps", 4)}
        options |= {name: constants.pop(name) for name in _OPTIONS if name in constants}
        names = self.kernel.arg_names
        types = _TYPES | {"places": self.places, "sums": self.sums}
        types |= dict.fromkeys(_POOL, self.pool)
        signature = {
            name: "constexpr" if name in constants else types.get(name, "i32") for name in names
        }
        given = {(names.index(name),): value for name, value in constants.items()}
        sizes = {name for name in _SIZES if name not in (self.kernel.do_not_specialize or ())}
        divisible = {
            (place,): [["tt.divisibility", 16]]
            for place, name in enumerate(names)
            if self.aligned and (signature[name].startswith("*") or name in sizes)
        }
        source = ASTSource(self.kernel, signature, constexprs=given, attrs=divisible)
        return triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)
