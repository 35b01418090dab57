"""A session as one safetensors file: its tokens, its memory, and a digest of both.

Tensors, in this order: `token_ids` `[T]` int64; for each layer i `pool.i` `[C, R]` float32, the
memories of the first C tokens (R is 0 if it keeps none), and `sums.i` float64 and `tail.i` float32,
what it keeps besides; at last `sha256` `[32]` uint8, of all bytes of the file before it.
The metadata name the format, its version, and the model and the fingerprint of its weights.

The digest finds damage, not malice: whoever makes a snapshot decides what the session remembers.
That stays within the session, since restored memory is never shared with others.
"""

import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from model.config import ModelConfig
from model.state import LayerSpec, SequenceMemory
from server.engine.served_model import ServedModel
from server.errors import InvalidSnapshotError

FORMAT, VERSION = "causalrn-session", "1"
_DIGEST = "sha256"
_DTYPES = {"int64": "I64", "float32": "F32", "float64": "F64", "uint8": "U8"}
_PIECE = 1 << 20  # bytes that are sent at once


@dataclass(frozen=True)
class Snapshot:
    """What a snapshot holds.

    Attributes:
        token_ids: the session's log.
        n_held: tokens of it, the first ones, whose memory is there.
        memory: of these.
    """

    token_ids: list[int]
    n_held: int
    memory: SequenceMemory


def largest_size(layers: list[LayerSpec], config: ModelConfig) -> int:
    """Bytes that a snapshot of a model's longest session may have."""
    state = sum(8 * spec.sum_width + 4 * int(np.prod(spec.tail_shape)) for spec in layers)
    token = 8 + 4 * sum(spec.pool_width for spec in layers)
    header = 4096 + 512 * len(layers)
    return config.max_seq_len * token + state + header


def write_snapshot(snapshot: Snapshot, model: ServedModel) -> tuple[int, Iterator[bytes]]:
    """A snapshot as a file.

    Returns:
        Its size in bytes, and its parts in order.
    """
    memory = snapshot.memory
    tensors: dict[str, NDArray[Any]] = {"token_ids": np.array(snapshot.token_ids, np.int64)}
    for i, pool in enumerate(memory.pools):
        tensors[f"pool.{i}"] = pool
        tensors[f"sums.{i}"] = memory.sums[i]
        tensors[f"tail.{i}"] = memory.tails[i]
    tensors[_DIGEST] = np.zeros(32, np.uint8)
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "model": model.name,
        "fingerprint": model.fingerprint,
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


def fingerprint_of(data: bytes) -> str | None:
    """Of the weights that a file says it is of; None if it says nothing.

    Nothing else of the file is looked at; `read_snapshot` does that.
    """
    try:
        (n_header,) = struct.unpack_from("<Q", data)
        found = json.loads(data[8 : 8 + n_header])["__metadata__"]["fingerprint"]
    except (ValueError, LookupError, TypeError, RecursionError, struct.error):
        return None
    return found if isinstance(found, str) else None


def read_snapshot(data: bytes, model: ServedModel, layers: list[LayerSpec]) -> Snapshot:
    """Check a file and take it apart.

    Args:
        data: the file.
        model: that it must be of.
        layers: what the model keeps.

    Raises:
        InvalidSnapshotError: not a snapshot, truncated, changed, or of other weights.
    """
    try:
        tensors = load(data)
        (n_header,) = struct.unpack_from("<Q", data)
        metadata: dict[str, str] = json.loads(data[8 : 8 + n_header]).get("__metadata__") or {}
    except (SafetensorError, ValueError, KeyError, struct.error) as error:
        raise InvalidSnapshotError(
            f"the body is not a safetensors file, or a truncated one: {error}"
        ) from None
    _check_metadata(metadata, model)
    digest = tensors.pop(_DIGEST, np.zeros(0, np.uint8))
    if digest.tobytes() != hashlib.sha256(data[:-32]).digest():
        raise InvalidSnapshotError("the snapshot was changed or damaged: its digest does not fit")
    token_ids = _take(tensors, "token_ids", np.int64, (None,))
    vocab_size = model.config.vocab_size
    if not ((token_ids >= 0) & (token_ids < vocab_size)).all():
        raise InvalidSnapshotError(f"token_ids: must lie between 0 and {vocab_size - 1}")
    if len(token_ids) > model.config.max_seq_len:
        raise InvalidSnapshotError(f"token_ids: there are more than {model.config.max_seq_len}")
    pools, sums, tails = [], [], []
    n_held = None
    for i, spec in enumerate(layers):
        pools.append(_take(tensors, f"pool.{i}", np.float32, (n_held, spec.pool_width)))
        n_held = len(pools[-1])
        sums.append(_take(tensors, f"sums.{i}", np.float64, (spec.sum_width,)))
        tails.append(_take(tensors, f"tail.{i}", np.float32, spec.tail_shape))
    if tensors:
        raise InvalidSnapshotError(f"unexpected tensor {min(tensors)!r}")
    if n_held is None or not 0 < n_held <= len(token_ids):
        raise InvalidSnapshotError("the pools hold more tokens than there are, or none")
    ids: list[int] = token_ids.tolist()
    counters = model.decoder.counters(ids[:n_held])
    return Snapshot(ids, n_held, SequenceMemory(counters, pools, sums, tails))


def _check_metadata(metadata: dict[str, str], model: ServedModel) -> None:
    if metadata.get("format") != FORMAT:
        raise InvalidSnapshotError("the file is not the snapshot of a session")
    if metadata.get("version") != VERSION:
        raise InvalidSnapshotError(
            f"the snapshot has version {metadata.get('version')}, this server reads {VERSION}"
        )
    if metadata.get("fingerprint") != model.fingerprint:
        raise InvalidSnapshotError(
            f"the snapshot is of weights {metadata.get('fingerprint', 'unknown'):.12} "
            f"({metadata.get('model')}), this server has {model.fingerprint:.12} ({model.name})"
        )


def _take(
    tensors: dict[str, NDArray[Any]], name: str, dtype: type[Any], shape: tuple[int | None, ...]
) -> NDArray[Any]:
    """Remove a tensor that must be there, and of that kind; None stands for any number."""
    tensor = tensors.pop(name, None)
    if tensor is None:
        raise InvalidSnapshotError(f"tensor {name!r} is missing")
    fits = len(tensor.shape) == len(shape) and all(
        wanted in (None, n) for wanted, n in zip(shape, tensor.shape, strict=True)
    )
    if tensor.dtype != dtype or not fits:
        raise InvalidSnapshotError(
            f"tensor {name!r} is {tensor.dtype} of shape {list(tensor.shape)}, expected "
            f"{np.dtype(dtype)} of {[n if n is not None else 'any' for n in shape]}"
        )
    if not np.isfinite(tensor).all():
        raise InvalidSnapshotError(f"tensor {name!r} holds values that are not finite")
    return tensor
