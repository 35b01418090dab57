import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies
from safetensors.numpy import load, save
from safetensors.torch import load as load_torch

from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.pool_dtype import PoolDtype
from causalrn.model.state import LayerSpec, SequenceMemory, TensorSpec
from causalrn.server.engine.served_model import ServedModel
from causalrn.server.errors import InvalidSnapshotError
from causalrn.server.sessions.snapshot import (
    Snapshot,
    fingerprint_of,
    largest_header,
    largest_size,
    read_snapshot,
    write_snapshot,
)
from tests.model.tiny import random_checkpoint
from tests.server.conftest import make_settings
from tests.server.driver import Driver
from tests.server.fake_model import FakeModel
from tests.server.sessions.digest import with_digest

ROOT = Path(__file__).parents[3]
MODEL = FakeModel(max_seq_len=100)
STATE = (TensorSpec("sums", (2,), "float64"), TensorSpec("tail", (1, 3)))
LAYERS = [LayerSpec(pool=MODEL.decoder.specs[0].pool, state=STATE)]
IDS = [256, *b"hello", 257, *b"hello", 258]


def to_bytes(snapshot: Snapshot, model: ServedModel = MODEL) -> bytes:
    size, parts = write_snapshot(snapshot, model)
    data = b"".join(parts)
    assert len(data) == size
    return data


def make(ids: list[int] = IDS, n_held: int | None = None) -> Snapshot:
    n_held = len(ids) - 1 if n_held is None else n_held
    pool = np.array(ids[:n_held], np.float32)[:, None]
    state = {"sums": np.arange(2.0), "tail": np.ones((1, 3), np.float32)}
    memory = SequenceMemory(MODEL.decoder.counters(ids[:n_held]), [{"pool": pool}], [state])
    return Snapshot(ids, n_held, memory)


DATA = to_bytes(make())


def read(data: bytes, layers: list[LayerSpec] = LAYERS) -> Snapshot:
    return read_snapshot(data, MODEL, layers)


def refused(data: bytes, reason: str = "") -> None:
    with pytest.raises(InvalidSnapshotError) as error:
        read(data)
    assert reason in error.value.message


def assert_equal(one: Snapshot, other: Snapshot) -> None:
    assert (one.token_ids, one.n_held) == (other.token_ids, other.n_held)
    assert one.memory.counters.tolist() == other.memory.counters.tolist()
    kept, others = (memory.pools + memory.states for memory in (one.memory, other.memory))
    for layer, same in zip(kept, others, strict=True):
        assert layer.keys() == same.keys()
        for a, b in ((layer[name], same[name]) for name in layer):
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


@pytest.mark.parametrize("n_held", [1, 5, len(IDS)])
def test_what_was_written_is_read(n_held: int) -> None:
    snapshot = make(n_held=n_held)
    assert_equal(read(to_bytes(snapshot)), snapshot)


def test_anybody_can_read_the_tensors() -> None:
    tensors = load(DATA)
    assert sorted(tensors) == ["pool.0", "sha256", "sums.0", "tail.0", "token_ids"]
    assert tensors["token_ids"].tolist() == IDS


def test_the_longest_session_is_as_large_as_the_limit_at_most() -> None:
    longest = [256, *[97] * 99]
    size, _ = write_snapshot(make(longest, 100), MODEL)
    limit = largest_size(LAYERS, MODEL.config)
    assert limit - 8192 < size <= limit


@pytest.mark.parametrize(
    ("mixers", "mlp"),
    [
        (("separable",), {}),
        (("normalized", "separable", "normalized"), {}),
        (("separable",) * 2, {}),
        (("separable", "normalized"), {"mlp_width": 12}),
        (("separable", "normalized"), {"mlp_width": 12, "mlp_shift_width": 4}),
    ],
)
@pytest.mark.parametrize("pool_dtype", ["float32", "bfloat16"])
def test_models_of_every_kind_go_on_from_what_was_read(
    tmp_path: Path, mixers: tuple[str, ...], mlp: dict[str, Any], pool_dtype: PoolDtype
) -> None:
    model = random_checkpoint(tmp_path, pool_dtype=pool_dtype, mixers=mixers, **mlp)
    first = Driver(model, make_settings(pool_bytes=10_000_000))
    first.add("a", "hello", session="s", logprobs=1, max_tokens=4, ignore_eos=True)
    first.run()
    log = first.logs["s"]
    held = first.core.sessions.export("s", log)
    assert held is not None
    assert held[0] == len(log) - 1
    data = to_bytes(Snapshot(log, *held), model)
    snapshot = read_snapshot(data, model, first.core.layers)
    assert_equal(snapshot, Snapshot(log, *held))
    second = Driver(model, make_settings(pool_bytes=10_000_000))
    second.core.sessions.restore("s", snapshot.token_ids[: snapshot.n_held], snapshot.memory)
    second.logs["s"] = snapshot.token_ids
    for driver in (first, second):
        driver.add("b", "world", session="s", logprobs=3)
        driver.run()
        assert driver.progress["b"].n_cached == held[0]
    assert first.joined("b") == second.joined("b")


NARROW = [LayerSpec(pool=(TensorSpec("pool", (1,), "bfloat16"),), state=STATE)]


def narrow(numbers: list[float]) -> bytes:
    """A snapshot whose memory is bfloat16."""
    snapshot = make([256, *b"a" * (len(numbers) - 1), 257], len(numbers))
    pool = torch.tensor(numbers, dtype=torch.bfloat16)[:, None]
    snapshot.memory.pools[0]["pool"] = pool.view(torch.uint16).numpy()
    return to_bytes(snapshot)


def test_memory_in_bfloat16_is_half_as_large_and_anybody_can_read_it() -> None:
    data = narrow([1.0, -2.5, 3e38])
    pool = load_torch(data)["pool.0"]
    assert pool.tolist() == torch.tensor([[1.0], [-2.5], [3e38]], dtype=torch.bfloat16).tolist()
    assert pool.dtype == torch.bfloat16
    assert read(data, NARROW).memory.pools[0]["pool"].dtype == np.uint16


@pytest.mark.parametrize("wrong", [float("inf"), -float("inf"), float("nan")])
def test_memory_in_bfloat16_that_is_not_finite_is_refused(wrong: float) -> None:
    with pytest.raises(InvalidSnapshotError, match="not finite"):
        read(narrow([1.0, wrong]), NARROW)


def test_memory_that_a_server_keeps_in_another_type_is_refused_and_says_what_to_do() -> None:
    refused(narrow([1.0, 2.0]), "CAUSALRN_POOL_DTYPE=bfloat16")
    with pytest.raises(InvalidSnapshotError, match="CAUSALRN_POOL_DTYPE=float32"):
        read(DATA, NARROW)


@pytest.mark.parametrize("value", [1e38, -1e38, 3e38])
def test_memory_that_leads_to_no_numbers_is_computed_again(tmp_path: Path, value: float) -> None:
    model = random_checkpoint(tmp_path, mixers=("normalized", "separable"))
    settings = make_settings(pool_bytes=10_000_000)
    sound, spoilt = Driver(model, settings), Driver(model, settings)
    sound.add("a", "hello", session="s", max_tokens=4, ignore_eos=True)
    sound.run()
    log = sound.logs["s"]
    held = sound.core.sessions.export("s", log)
    assert held is not None
    for tensor in (one for layer in held[1].pools + held[1].states for one in layer.values()):
        tensor[...] = value
    read_back = read_snapshot(to_bytes(Snapshot(log, *held), model), model, sound.core.layers)
    spoilt.core.sessions.restore("s", log[: read_back.n_held], read_back.memory)
    spoilt.logs["s"] = log
    for driver in (sound, spoilt):
        driver.add("b", "world", session="s", logprobs=3, max_tokens=8, ignore_eos=True)
        driver.run()
    assert spoilt.progress["b"].n_cached == 0
    assert spoilt.joined("b") == sound.joined("b")
    spoilt.add("c", "again", session="s")  # what it keeps from now on is sound
    spoilt.run()
    assert spoilt.progress["c"].n_cached > 0


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 100, len(DATA) - 33, len(DATA) - 32, len(DATA) - 1])
def test_a_truncated_file_is_refused(n: int) -> None:
    refused(DATA[:n], "not a safetensors file, or a truncated one")


@pytest.mark.parametrize(
    "text", [b'{"__metadata__":[' + b"[]," * 9000 + b"[]]}", b"{}" + b" " * 9000]
)
def test_a_header_that_no_snapshot_needs_is_not_parsed(text: bytes) -> None:
    data = struct.pack("<Q", len(text)) + text
    reason = f"its header has {len(text)} bytes, and {largest_header(LAYERS)} are enough"
    refused(data, reason)
    with pytest.raises(InvalidSnapshotError, match=reason):
        fingerprint_of(data, largest_header(LAYERS))


@given(strategies.integers(0, len(DATA) - 1), strategies.integers(1, 255))
def test_a_changed_byte_is_refused(place: int, change: int) -> None:
    refused(DATA[:place] + bytes([DATA[place] ^ change]) + DATA[place + 1 :])


@given(strategies.integers(0, len(DATA)), strategies.binary(min_size=1, max_size=9))
def test_bytes_in_between_or_behind_are_refused(place: int, more: bytes) -> None:
    refused(DATA[:place] + more + DATA[place:])


@given(strategies.binary(max_size=200))
def test_bytes_that_are_no_file_are_refused(data: bytes) -> None:
    refused(data)


def rebuilt(change: Callable[[dict[str, Any], dict[str, str]], None]) -> bytes:
    """A file that somebody put together with a digest that fits."""
    tensors, metadata = dict(load(DATA)), header()["__metadata__"]
    del tensors["sha256"]
    change(tensors, metadata)
    return write(tensors, metadata)


def write(tensors: dict[str, Any], metadata: Any) -> bytes:
    """As `write_snapshot` does it, without looking at what is written."""
    names = {"int64": "I64", "int32": "I32", "float64": "F64", "float32": "F32", "float16": "F16"}
    parts = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    described: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    end = 0
    for name, part in parts.items():
        begin, end = end, end + part.nbytes
        described[name] = {
            "dtype": names[part.dtype.name], "shape": part.shape, "data_offsets": [begin, end]
        }  # fmt: skip
    described["sha256"] = {"dtype": "U8", "shape": [32], "data_offsets": [end, end + 32]}
    text = json.dumps(described).encode()
    text += b" " * (-len(text) % 8)
    body = b"".join(part.tobytes() for part in parts.values())
    return with_digest(struct.pack("<Q", len(text)) + text + body + bytes(32))


def header(data: bytes = DATA) -> Any:
    (n,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + n])


def test_a_file_that_was_put_together_well_is_read() -> None:
    assert_equal(read(rebuilt(lambda *_: None)), make())


def replaced(name: str, value: Any) -> Callable[[dict[str, Any], dict[str, str]], None]:
    return lambda tensors, _: tensors.update({name: value})


POOL = np.zeros((12, 1), np.float32)
NAN = np.array([[1.0]] * 11 + [[np.nan]], np.float32)
FORGED: dict[str, tuple[Callable[[dict[str, Any], dict[str, str]], Any], str]] = {
    "other format": (lambda _, data: data.update(format="pt"), "not the snapshot of a session"),
    "no format": (lambda _, data: data.pop("format"), "not the snapshot of a session"),
    "other version": (lambda _, data: data.update(version="3"), "this server reads 1 and 2"),
    "other weights": (lambda _, data: data.update(fingerprint="5e" * 32), "weights 5e5e5e5e5e5e"),
    "no weights": (lambda _, data: data.pop("fingerprint"), "of weights unknown"),
    "no pool": (lambda tensors, _: tensors.pop("pool.0"), "tensor 'pool.0' is missing"),
    "no sums": (lambda tensors, _: tensors.pop("sums.0"), "tensor 'sums.0' is missing"),
    "no ids": (lambda tensors, _: tensors.pop("token_ids"), "tensor 'token_ids' is missing"),
    "one more": (replaced("pool.1", POOL), "unexpected tensor 'pool.1'"),
    "short ids": (replaced("token_ids", np.zeros(13, np.int32)), "is I32, which no snapshot has"),
    "ids in rows": (replaced("token_ids", np.zeros((13, 1), np.int64)), "of shape [13, 1]"),
    "no id": (replaced("token_ids", np.zeros(0, np.int64)), "or of more than there are"),
    "negative id": (replaced("token_ids", np.full(13, -1)), "between 0 and 258"),
    "unknown id": (replaced("token_ids", np.full(13, 259)), "between 0 and 258"),
    "too many ids": (replaced("token_ids", np.zeros(101, np.int64)), "more than 100"),
    "fewer ids": (replaced("token_ids", np.zeros(11, np.int64)), "or of more than there are"),
    "nothing held": (lambda _, data: data.update(n_held="0"), "memory is of no tokens"),
    "held, but no number": (lambda _, data: data.update(n_held="1e1"), "memory is of no tokens"),
    "no word of what is held": (lambda _, data: data.pop("n_held"), "memory is of no tokens"),
    "another number held": (lambda _, data: data.update(n_held="11"), "float32 of shape [12, 1]"),
    "wide pool": (replaced("pool.0", np.zeros((12, 2), np.float32)), "float32 of [12, 1]"),
    "flat pool": (replaced("pool.0", POOL[:, 0]), "expected float32"),
    "short floats": (replaced("pool.0", POOL.astype(np.float16)), "is F16, which no snapshot has"),
    "long floats": (replaced("pool.0", POOL.astype(float)), "is float64 of shape"),
    "not a number": (replaced("pool.0", NAN), "holds values that are not finite"),
    "infinite": (replaced("pool.0", POOL + np.float32(np.inf)), "not finite"),
    "more sums": (replaced("sums.0", np.zeros(3)), "is float64 of shape [3]"),
    "short sums": (replaced("sums.0", np.zeros(2, np.float32)), "is float32 of shape [2]"),
    "other tail": (replaced("tail.0", np.zeros((2, 3), np.float32)), "is float32 of shape [2, 3]"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORGED)
def test_a_file_that_does_not_fit_is_refused_whoever_made_it(kind: str) -> None:
    change, reason = FORGED[kind]
    refused(rebuilt(change), reason)


def test_layers_hold_equally_many_tokens() -> None:
    tensors = dict(load(DATA))
    del tensors["sha256"]
    for name in ("pool", "sums", "tail"):
        tensors[f"{name}.1"] = tensors[f"{name}.0"]
    tensors["pool.1"] = tensors["pool.1"][:-1]
    data = write(tensors, header()["__metadata__"])
    with pytest.raises(InvalidSnapshotError, match=r"'pool.1' is float32 of shape \[11, 1\]"):
        read(data, LAYERS * 2)


@pytest.mark.parametrize("metadata", [None, {}])
def test_a_file_that_says_nothing_of_itself_is_refused(metadata: Any) -> None:
    tensors = dict(load(DATA))
    del tensors["sha256"]
    refused(write(tensors, metadata), "not the snapshot of a session")


def test_a_file_of_another_program_is_refused() -> None:
    refused(save({"a": POOL}), "not the snapshot of a session")


def raw(text: str, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text.encode() + body


@pytest.mark.parametrize(
    "data",
    [
        raw("{}"),
        raw('{"__metadata__":null}'),
        raw('{"__metadata__":{"format":1}}'),
        raw('{"__metadata__":{"format":null}}'),
        raw('{"a":{"dtype":"F32","shape":[18446744073709551615,0],"data_offsets":[0,0]}}'),
        raw('{"a":{"dtype":"F32","shape":[4611686018427387904,0,9],"data_offsets":[0,0]}}'),
        raw('{"a":{"dtype":"F32","shape":[0' + ",0" * 70 + '],"data_offsets":[0,0]}}'),
        raw("[" * 10_000),
        raw('{"a":' + "[" * 10_000),
        struct.pack("<Q", 2**63) + DATA[8:],
        b"\0" * 40,
        b"PK\x03\x04" + bytes(100),
    ],
    ids=range(12),
)
def test_a_hostile_header_is_refused(data: bytes) -> None:
    refused(data)


@pytest.mark.parametrize(
    "dtype",
    [
        "BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F4", "F6_E2M3", "F6_E3M2", "I16",
        "U16", "F16", "BF16", "I32", "U32", "C64", "U64",
    ],
)  # fmt: skip
def test_a_tensor_of_any_other_kind_is_refused(dtype: str) -> None:
    text = '{"__metadata__":%s,"token_ids":{"dtype":"%s","shape":[8],"data_offsets":[0,%d]}}'
    metadata = json.dumps(header()["__metadata__"])
    for n_bytes in (4, 6, 8, 16, 32, 64):
        refused(with_digest(raw(text % (metadata, dtype, n_bytes), bytes(n_bytes))))


def test_a_snapshot_of_other_weights_names_both() -> None:
    model = FakeModel(name="other", fingerprint="ab" * 32)
    refused(
        to_bytes(make(), model), "of weights abababababab (other), this server has 000000000000"
    )


def test_writing_does_not_touch_the_memory() -> None:
    snapshot = make()
    before = snapshot.memory.pools[0]["pool"].copy()
    to_bytes(snapshot)
    assert snapshot.memory.pools[0]["pool"].tobytes() == before.tobytes()


def test_a_snapshot_of_version_1_goes_on() -> None:
    """Written by the first release, of the shipped copy-az after two copies in one session."""
    data = (Path(__file__).parent / "snapshot-of-version-1.safetensors").read_bytes()
    model = load_checkpoint(ROOT / "checkpoints" / "copy-az")
    settings = make_settings(pool_bytes=10_000_000)
    first, second = Driver(model, settings), Driver(model, settings)
    snapshot = read_snapshot(data, model, second.core.layers)
    for number, text in enumerate(("snapshot", "of")):
        first.add(str(number), text, session="s")
        first.run()
    assert snapshot.token_ids == first.logs["s"]
    second.core.sessions.restore("s", snapshot.token_ids[: snapshot.n_held], snapshot.memory)
    second.logs["s"] = snapshot.token_ids
    for driver in (first, second):
        driver.add("next", "version", session="s", logprobs=3)
        driver.run()
        assert driver.progress["next"].n_cached == snapshot.n_held
    assert first.joined("next") == second.joined("next")
    again = to_bytes(snapshot, model)
    assert_equal(read_snapshot(again, model, second.core.layers), snapshot)
