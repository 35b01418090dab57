"""A session as one safetensors file: its tokens, its memory, and a digest of both.

The tensors are, in this order: `token_ids` `[T]` int64; for each layer i, those that its
`LayerSpec` names and does not derive; and `sha256` `[32]` uint8, the digest of all bytes of the
file before it. A tensor NAME of a layer's pool is `NAME.i` `[C, K]`, the memory of the first C
tokens, heads side by side; one of its state is `NAME.i`, in its own shape. The metadata give the
format and its version, the model and the fingerprint of its weights, and how many tokens the memory
is of. Version 1 also had empty tensors, for what a layer does not keep.

The digest finds damage, not malice: whoever makes a snapshot decides what the session remembers.
That stays within the session, since restored memory is never shared with others.
"""

import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from causalrn.model.config import ModelConfig
from causalrn.model.state import LayerSpec, SequenceMemory
from causalrn.server.engine.served_model import ServedModel
from causalrn.server.errors import InvalidSnapshotError

FORMAT, VERSION = "causalrn-session", "2"
_READ = ("1", VERSION)
_DIGEST = "sha256"
_DTYPES = {"int64": "I64", "float32": "F32", "float64": "F64", "uint8": "U8", "uint16": "BF16"}
_ARRAYS = {kept: name for name, kept in _DTYPES.items()}  # NumPy's for the bits of bfloat16
_BFLOAT16_EXPONENT = 0x7F80  # all of it is set in what is not finite
_PIECE = 1 << 20  # bytes that are sent at once


@dataclass(frozen=True)
class Snapshot:
    """What a snapshot holds.

    Attributes:
        token_ids: the session's log.
        n_held: how many tokens, from the beginning of the log, the memory is of.
        memory: of these tokens.
    """

    token_ids: list[int]
    n_held: int
    memory: SequenceMemory


def largest_size(layers: list[LayerSpec], config: ModelConfig) -> int:
    """Most bytes that a snapshot of a model's longest session can have."""
    state = sum(spec.n_bytes for layer in layers for spec in layer.state)
    token = 8 + sum(spec.n_bytes for layer in layers for spec in layer.exported)
    return config.max_seq_len * token + state + largest_header(layers)


def largest_header(layers: list[LayerSpec]) -> int:
    """Most bytes that the JSON at the beginning of a model's snapshot can have."""
    return 4096 + 256 * sum(len(layer.exported) + len(layer.state) for layer in layers)


def write_snapshot(snapshot: Snapshot, model: ServedModel) -> tuple[int, Iterator[bytes]]:
    """A snapshot as a file.

    Returns:
        Its size in bytes, and its parts in order.
    """
    memory = snapshot.memory
    tensors: dict[str, NDArray[Any]] = {"token_ids": np.array(snapshot.token_ids, np.int64)}
    for i, kept in enumerate(zip(memory.pools, memory.states, strict=True)):
        tensors |= {f"{name}.{i}": tensor for part in kept for name, tensor in part.items()}
    tensors[_DIGEST] = np.zeros(32, np.uint8)
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "model": model.name,
        "fingerprint": model.fingerprint,
        "n_held": str(snapshot.n_held),
    }
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _DTYPES[tensor.dtype.name],
            "shape": tensor.shape,
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    head = struct.pack("<Q", len(text)) + text
    return len(head) + end, _parts(head, list(tensors.values())[:-1])


def _parts(head: bytes, tensors: list[NDArray[Any]]) -> Iterator[bytes]:
    digest = hashlib.sha256(head)
    yield head
    for tensor in tensors:
        data = np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)
        for begin in range(0, len(data), _PIECE):
            part = data[begin : begin + _PIECE].tobytes()
            digest.update(part)
            yield part
    yield digest.digest()


def fingerprint_of(data: bytes, most: int) -> str | None:
    """The fingerprint of the weights that a file says it is of; None if it says nothing.

    The rest of the file is not looked at; `read_snapshot` does that.

    Args:
        data: the file.
        most: bytes that its header may have; see `largest_header`.

    Raises:
        InvalidSnapshotError: the header has more.
    """
    found = _metadata(data, most).get("fingerprint")
    return found if isinstance(found, str) else None


def _metadata(data: bytes, most: int) -> dict[str, Any]:
    """The metadata of a file; empty if they cannot be read."""
    n_header = int.from_bytes(data[:8], "little")
    if len(data) >= 8 and n_header > most:  # whatever is in it, no parser sees it
        raise InvalidSnapshotError(
            f"the body is not a safetensors file of a session: its header has {n_header} bytes, "
            f"and {most} are enough for any"
        )
    try:
        found = json.loads(data[8 : 8 + n_header])["__metadata__"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def read_snapshot(data: bytes, model: ServedModel, layers: list[LayerSpec]) -> Snapshot:
    """Check a file and take it apart.

    Args:
        data: the file.
        model: the one that the snapshot must be of.
        layers: what the model's layers keep of a sequence.

    Raises:
        InvalidSnapshotError: it is no snapshot, is truncated or changed, or is of other weights.
    """
    metadata: dict[str, str] = _metadata(data, largest_header(layers))
    try:
        found = deserialize(data)  # type: ignore[no-untyped-call]  # as its stubs have it
    except SafetensorError as error:
        raise InvalidSnapshotError(
            f"the body is not a safetensors file, or a truncated one: {error}"
        ) from None
    _check_metadata(metadata, model)
    tensors = {name: _array(name, **one) for name, one in found}
    digest = tensors.pop(_DIGEST, np.zeros(0, np.uint8))
    if digest.tobytes() != hashlib.sha256(data[:-32]).digest():
        raise InvalidSnapshotError("the snapshot was changed or damaged: its digest does not fit")
    token_ids = _take(tensors, "token_ids", "int64", (None,))
    vocab_size = model.config.vocab_size
    if not ((token_ids >= 0) & (token_ids < vocab_size)).all():
        raise InvalidSnapshotError(f"token_ids: must lie between 0 and {vocab_size - 1}")
    if len(token_ids) > model.config.max_seq_len:
        raise InvalidSnapshotError(f"token_ids: there are more than {model.config.max_seq_len}")
    pools: list[dict[str, NDArray[Any]]] = []
    states: list[dict[str, NDArray[Any]]] = []
    n_held = _n_held(metadata, tensors)
    if not 0 < n_held <= len(token_ids):
        raise InvalidSnapshotError("its memory is of no tokens, or of more than there are")
    for i, layer in enumerate(layers):
        pools.append({})
        for spec in layer.exported:
            shape = (n_held, prod(spec.shape))
            pools[-1][spec.name] = _take(tensors, f"{spec.name}.{i}", spec.dtype, shape)
        states.append({})
        for spec in layer.state:
            states[-1][spec.name] = _take(tensors, f"{spec.name}.{i}", spec.dtype, spec.shape)
    if metadata["version"] == "1":
        tensors = {name: tensor for name, tensor in tensors.items() if tensor.size}
    if tensors:
        raise InvalidSnapshotError(f"unexpected tensor {min(tensors)!r}")
    ids: list[int] = token_ids.tolist()
    counters = model.decoder.counters(ids[:n_held])
    return Snapshot(ids, n_held, SequenceMemory(counters, pools, states))


def _array(name: str, dtype: str, shape: list[int], data: bytes) -> NDArray[Any]:
    """A tensor of a file; the bits of bfloat16 as uint16, which `safetensors.numpy` cannot read."""
    if dtype not in _ARRAYS:
        raise InvalidSnapshotError(f"tensor {name!r} is {dtype}, which no snapshot has")
    return np.frombuffer(data, _ARRAYS[dtype]).reshape(shape)


def _n_held(metadata: dict[str, str], tensors: dict[str, NDArray[Any]]) -> int:
    """How many tokens the memory is of."""
    if metadata["version"] == "1":
        pool = tensors.get("pool.0")
        return 0 if pool is None or not pool.ndim else len(pool)
    text = metadata.get("n_held", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0


def _check_metadata(metadata: dict[str, str], model: ServedModel) -> None:
    if metadata.get("format") != FORMAT:
        raise InvalidSnapshotError("the file is not the snapshot of a session")
    if metadata.get("version") not in _READ:
        raise InvalidSnapshotError(
            f"the snapshot has version {metadata.get('version')}, this server reads "
            f"{' and '.join(_READ)}"
        )
    if metadata.get("fingerprint") != model.fingerprint:
        raise InvalidSnapshotError(
            f"the snapshot is of weights {metadata.get('fingerprint', 'unknown'):.12} "
            f"({metadata.get('model')}), this server has {model.fingerprint:.12} ({model.name})"
        )


def _take(
    tensors: dict[str, NDArray[Any]], name: str, dtype: str, shape: tuple[int | None, ...]
) -> NDArray[Any]:
    """Take out a tensor, which must be there and have this dtype and shape; None is any number."""
    tensor = tensors.pop(name, None)
    if tensor is None:
        raise InvalidSnapshotError(f"tensor {name!r} is missing")
    fits = len(tensor.shape) == len(shape) and all(
        wanted in (None, n) for wanted, n in zip(shape, tensor.shape, strict=True)
    )
    found = "bfloat16" if tensor.dtype == np.uint16 else tensor.dtype.name
    if {found, dtype} == {"float32", "bfloat16"}:
        raise InvalidSnapshotError(
            f"the snapshot's memory is {found} (tensor {name!r}), this server keeps it in {dtype}: "
            f"start one with CAUSALRN_POOL_DTYPE={found}"
        )
    if found != dtype or not fits:
        raise InvalidSnapshotError(
            f"tensor {name!r} is {found} of shape {list(tensor.shape)}, expected "
            f"{dtype} of {[n if n is not None else 'any' for n in shape]}"
        )
    if not _is_finite(tensor):
        raise InvalidSnapshotError(f"tensor {name!r} holds values that are not finite")
    return tensor


def _is_finite(tensor: NDArray[Any]) -> bool:
    if tensor.dtype == np.uint16:
        return bool(((tensor & _BFLOAT16_EXPONENT) != _BFLOAT16_EXPONENT).all())
    return bool(np.isfinite(tensor).all())
