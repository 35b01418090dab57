"""What a GPU computes, how exactly, and how fast: all of it in one go.

    python -m benchmarks.gpu [--checkpoint FOLDER] [--small] [--output FILE]

It is meant to take less than ten minutes, and has three parts, none of which needs a network:

- Kernels beside the float64 reference: the relations, keyed ones of every form among them, with
  pairs that nearly cancel; whole sequences with their gradients, as in training; how often tokens
  are drawn; steps that are played from records beside launched ones; and the decoder of the
  checkpoint, and attention, beside the same ones on the CPU.
- The server's acceptance: texts of every kind are copied exactly, and 64 streams that are cut half
  way leave nothing behind.
- Rates: exponentials of the normalized relation while decoding and while reading a prompt, beside
  what the data sheet allows (`benchmarks.gpu_rates`) and beside eager PyTorch; tokens a second,
  with steps that are played from records and with launched ones; and what records take.

`--small` takes sizes that Triton's interpreter can do, to try the command itself where there is no
GPU (`TRITON_INTERPRET=1`); its rates say nothing. The exit status is 1 if anything is not as it
should be. The last line is JSON.
"""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from torch import Tensor

from benchmarks import gpu_rates
from benchmarks.figures import add_checkpoint, arguments, machine, publish, start
from benchmarks.gpu_errors import BOUNDS, EPS, PAGE, batch_of, check_kernels
from benchmarks.server_process import causalrn_server
from causalrn.model.backends.gpu_scratch import DeviceScratch
from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.device import DeviceError, backend_for
from causalrn.model.evaluation.strings import BYTE_KINDS
from causalrn.model.ops.relation import gpu as relation
from causalrn.model.state import RaggedBatch
from causalrn_client import Client


def main() -> None:
    """Print the figures for people, then as JSON."""
    parser = arguments(__doc__)
    add_checkpoint(parser)
    parser.add_argument("--small", action="store_true", help="sizes for Triton's interpreter")
    options = parser.parse_args()
    try:
        backend_for("cuda")
    except DeviceError as error:
        parser.exit(2, f"error: {error}\n")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    errors = check_kernels(device, options.checkpoint, small=options.small)
    served = check_server(options.checkpoint, small=options.small)
    rates = measure(device, options.checkpoint, small=options.small)
    figures = machine() | {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "interpreted",
        "small": options.small,
        "errors": errors,
        "server": served,
        "rates": rates,
    }
    publish(figures, options.output)
    too_large = [name for name, error in errors.items() if not error <= BOUNDS[name.split()[0]]]
    for name in too_large:
        print(f"error: {name} is off by {errors[name]:.1e}", file=sys.stderr)
    if too_large or served["wrong"] or served["held"]:
        raise SystemExit(1)


def check_server(checkpoint: Path, *, small: bool) -> dict[str, Any]:
    """How many copies are wrong, and what 64 half-cut streams leave behind."""
    lengths = (3,) if small else (1, 3, 77, 512)
    n_cut = 4 if small else 64
    settings: dict[str, Any] = {"checkpoint": checkpoint, "device": "cuda", "stall_seconds": 600}
    if small:
        settings |= {"max_running": 16, "max_batch_tokens": 16}
    texts = [
        draw(np.random.default_rng(length), length).tolist()
        for draw in BYTE_KINDS.values()
        for length in lengths
    ]
    with causalrn_server(settings) as server:

        def copy(text: list[int]) -> bool:
            with Client(server.url, timeout=600) as client:
                return client.generate(token_ids=text).token_ids == text

        def cut(number: int) -> None:
            ids = np.random.default_rng(number).integers(0, 256, 4 if small else 256).tolist()
            with Client(server.url, timeout=600) as client, client.stream(token_ids=ids) as stream:
                next(iter(stream))

        with ThreadPoolExecutor(min(64, len(texts))) as pool:
            right = list(pool.map(copy, texts))
            list(pool.map(cut, range(n_cut)))
        held = _held_when_idle(server.url)
    print(f"{sum(right)} of {len(texts)} copies are exact; {held} are held after {n_cut} cuts")
    return {"copies": len(texts), "wrong": len(texts) - sum(right), "cut": n_cut, "held": held}


def measure(device: torch.device, checkpoint: Path, *, small: bool) -> dict[str, Any]:
    """Exponentials a second, with what the data sheet allows, and tokens a second."""
    found: dict[str, Any] = {}
    target = None
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability()
        target = 10 * major + minor
    sizes = [(2, 40)] if small else [(1, 16384), (32, 2048), (256, 512)]
    for k in (16,) if small else (128, 192, 256):
        for n, length in sizes:
            rate = _decoding_rate(device, n, length, k)
            cell = {"exponentials_per_second": rate}
            if target in gpu_rates.GPUS:
                cell["share_of_special_functions"] = rate / gpu_rates.exponentials(target)
                cell["share_of_memory"] = 4 * rate / gpu_rates.GPUS[target].bytes
            cell["times_eager"] = rate / _eager_rate(device, n, length, k)
            found[f"decode K {k}, {n} sequences of {length}"] = cell
    found["records"] = _records(checkpoint)
    for name, plays in (("tokens_per_second", True), ("tokens_per_second_launched", False)):
        found[name] = {
            n: _token_rate(checkpoint, n, plays=plays) for n in ([2] if small else [1, 64])
        }
    for name, value in found.items():
        print(f"{name}: {value}", flush=True)
    return found


def _held_when_idle(url: str) -> int:
    """Streams and tokens in the queue, once the server has had time to let go of them."""
    for _ in range(200):
        health = httpx.get(f"{url}/health", timeout=60).json()
        held = int(health["running"] + health["waiting"])
        if not held:
            return 0
        time.sleep(0.05)
    return held


def _seconds(device: torch.device, work: Callable[[], object]) -> float:
    """Of one run, after a first one: the least of five."""
    work()
    times = []
    for _ in range(5):
        if device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return min(times)


def _decoding_rate(device: torch.device, n: int, length: int, k: int) -> float:
    scratch = DeviceScratch(device)
    scratch.batch = batch_of(n, 1, length - 1, device)
    n_pages = scratch.batch.block_tables.numel()
    memory = {
        name: torch.randn(n_pages, 1, PAGE, width, device=device)
        for name, width in (("pool", k), ("totals", 2))
    }
    a, b, out = torch.randn(3, n, k, device=device)
    seconds = _seconds(device, lambda: relation.relate_all(scratch, memory, PAGE, EPS, a, b, out))
    return n * length * k / seconds


def _eager_rate(device: torch.device, n: int, length: int, k: int) -> float:
    """Of the same in PyTorch, with memories side by side."""
    memories, readers = (
        torch.randn(n, length, k, device=device),
        torch.randn(n, 1, k, device=device),
    )

    def work() -> Tensor:
        pairs = memories + readers
        centred = pairs - pairs.mean(-1, keepdim=True)
        return (centred / (centred.square().mean(-1, keepdim=True).sqrt() + EPS)).exp().mean(1)

    return n * length * k / _seconds(device, work)


def _records(checkpoint: Path) -> dict[str, float]:
    """What it takes to record every bucket of 64 streams of up to 16,384 tokens."""
    model = load_checkpoint(checkpoint, "gpu")
    state = model.decoder.new_state(n_pages=16384 // PAGE, page_size=PAGE, n_slots=64)
    free, began = _free_bytes(), time.perf_counter()
    model.decoder.prepare(state)
    seconds, steps = time.perf_counter() - began, state.scratch
    taken = free - _free_bytes()
    return {"buckets": steps.n_graphs, "seconds": seconds, "bytes": taken, "room": steps.n_bytes}


def _free_bytes() -> int:
    if not torch.cuda.is_available():
        return 0
    torch.cuda.synchronize()
    free, _ = torch.cuda.mem_get_info()
    return int(free)


def _token_rate(checkpoint: Path, n: int, *, plays: bool) -> float:
    """Tokens a second of n sequences that decode, without an engine.

    Args:
        checkpoint: to load.
        n: how many.
        plays: whether steps are played from records.
    """
    model = load_checkpoint(checkpoint, "gpu")
    state = model.decoder.new_state(n_pages=n, page_size=PAGE, n_slots=n)
    state.scratch.records = plays
    steps = 32 if torch.cuda.is_available() else 4
    tables = np.arange(n, dtype=np.int32)[:, None]
    began = 0.0
    for step in range(steps + 1):
        if step == 1:
            began = time.perf_counter()  # the first one compiles
        batch = RaggedBatch(
            np.full(n, 65), np.arange(n + 1), np.full(n, step), np.arange(n), tables
        )
        model.decoder.extend(batch, state).bring()  # and wait for it
    return n * steps / (time.perf_counter() - began)


if __name__ == "__main__":
    start(main)
