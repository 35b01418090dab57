"""How exact the kernels of a GPU are: beside the float64 reference, the CPU, and each other."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from causalrn.model.backends.gpu_inputs import DeviceBatch, Inputs, nobody
from causalrn.model.backends.gpu_scratch import DeviceScratch
from causalrn.model.checkpoint import load_checkpoint
from causalrn.model.config import ModelConfig
from causalrn.model.decoder import Decoder
from causalrn.model.draws import RowDraw
from causalrn.model.ops.device import as_on_device
from causalrn.model.ops.logits.gpu_sampling import make_draws
from causalrn.model.ops.relation import gpu as relation
from causalrn.model.ops.relation import (
    gpu_separable,
    normalized_relation,
    reference,
    separable_relation,
)
from causalrn.model.ops.relation.cpu_keyed_blunt import is_blunt
from causalrn.model.ops.relation.gpu_keyed_layer import Form, full_matches, relate_all, remember
from causalrn.model.ops.relation.keyed import keyed_relation
from causalrn.model.sampling import Sampler, SamplingParams
from causalrn.model.state import RaggedBatch
from causalrn.model.tokenizers.byte import ByteTokenizer

EPS = 1e-6
PAGE = 64
BOUNDS = {
    "normalized": 4e-6, "separable": 2e-6, "keyed": 1e-5, "decoder": 1e-5, "whole": 2e-4,
    "draws": 5.0, "peer": 1e-5, "records": 0.0,
}  # fmt: skip
"""The largest error of a row, as a share of its largest number; whole sequences with gradients. Of
draws, by how many standard deviations a token's count is off; of records, the difference."""


def check_kernels(device: torch.device, checkpoint: Path, *, small: bool) -> dict[str, float]:
    """The largest error of each kind of kernel."""
    length = 20 if small else 700
    errors = {}
    for k in (24, 63) if small else (1, 2, 24, 63, 64, 128, 192, 256, 257):
        a, b = _pairs(length, k)
        heads = (1, length, 1, k)
        exact = reference.normalized_relation(a.view(heads), b.view(heads), EPS)
        errors[f"normalized {k}"] = _error(_normalized(a, b, device), exact.view(length, k))
        exact = reference.separable_relation(a.view(heads), b.view(heads), EPS)
        errors[f"separable {k}"] = _error(_separable(a, b, device), exact.view(length, k))
    for k in (24,) if small else (24, 63, 128, 192, 257):
        drawn = [one.view(1, length, 1, k) for one in (*_pairs(length, k), torch.randn(length, k))]
        errors[f"whole {k}"] = _whole_error(
            lambda a, b: normalized_relation(a, b, EPS),
            lambda a, b: reference.normalized_relation(a, b, EPS), drawn, device,
        )  # fmt: skip
        errors[f"whole separable {k}"] = _whole_error(
            lambda a, b: separable_relation(a, b, EPS),
            lambda a, b: reference.separable_relation(a, b, EPS), drawn, device,
        )  # fmt: skip
    errors["draws"] = _draws_error(200 if small else 20_000, device)
    for tau, recency in ((1.0, 0.0), (8.0, 1.5), (5e7, 50.0)):
        for n_keys, n_values in ((16, 17), (48, 20), (128, 272)):
            a, b = _pairs(length, n_keys + n_values)
            form = _form(n_keys, n_values, tau, recency, device)
            exact = reference.keyed_relation(
                a[None, :, :n_keys], b[None], form.temperature.cpu()[0], d_value=n_values,
                recency=recency, eps=EPS,
            )[0]  # fmt: skip
            got = _keyed(form, a, b, device)
            errors[f"keyed {n_keys} {n_values} {tau:g} {recency:g}"] = _error(got, exact)
            if small and n_keys > 16:
                continue
            n = min(length, 300)  # of all pairs, autograd keeps several numbers for each channel
            drawn = [a[None, :n, :n_keys], b[None, :n], torch.randn(1, n, n_values)]
            how: dict[str, Any] = {"d_value": n_values, "recency": recency, "eps": EPS}
            errors[f"whole keyed {n_keys} {n_values} {tau:g} {recency:g}"] = _whole_error(
                partial(keyed_relation, temperature=form.temperature[0], **how),
                partial(reference.keyed_relation, temperature=form.temperature.cpu()[0], **how),
                drawn, device,
            )  # fmt: skip
    logits = [
        _logits(checkpoint, backend, 8 if small else 600) for backend in ("cpu", "gpu")
    ]  # fmt: skip
    errors["decoder"] = _error(logits[1], logits[0])
    for mixer in ("attention", "linear_attention"):
        of_peers = [_logits_of_peer(mixer, backend, length) for backend in ("cpu", "gpu")]
        errors[f"peer {mixer}"] = _error(of_peers[1], of_peers[0])
    errors["records"] = _records_error(checkpoint, 4 if small else 64)
    for name, error in errors.items():
        print(f"{name}: {error:.1e}", flush=True)
    return errors


def _pairs(length: int, k: int) -> tuple[Tensor, Tensor]:
    """Readers and memories, some of which nearly cancel, or leave little but a mean."""
    a, b = torch.randn(2, length, k, generator=torch.Generator().manual_seed(k))
    b[::3] = -a[::3] * 1.001
    b[::6] += 7.0
    return a, b


def batch_of(n: int, length: int, held: int, device: torch.device) -> DeviceBatch:
    """`length` new tokens for each of n sequences that hold `held`, in pages in any order."""
    n_pages = -(-(held + length) // PAGE)
    pages = np.random.default_rng(0).permutation(n * n_pages).astype(np.int32).reshape(n, n_pages)
    nothing = np.zeros(n * length, np.int64)
    batch = RaggedBatch(nothing, np.arange(n + 1) * length, np.full(n, held), np.arange(n), pages)
    return Inputs.alone(batch, device).batch


def _normalized(a: Tensor, b: Tensor, device: torch.device) -> Tensor:
    length, k = a.shape
    scratch = DeviceScratch(device)
    scratch.batch = batch_of(1, length, 0, device)
    memory = {
        name: torch.zeros(-(-length // PAGE), 1, PAGE, width, device=device)
        for name, width in (("pool", k), ("totals", 2))
    }
    out = torch.empty(length, k, device=device)
    relation.relate_all(scratch, memory, PAGE, EPS, a.to(device), b.to(device), out)
    return out.cpu()


def _separable(a: Tensor, b: Tensor, device: torch.device) -> Tensor:
    scratch = DeviceScratch(device)
    scratch.batch = batch_of(1, len(a), 0, device)
    sums = torch.zeros(1, a.shape[1], dtype=torch.float64, device=device)
    out = torch.empty(a.shape, device=device)
    a, b = (one.to(device, copy=True) for one in (a, b))
    gpu_separable.add_up(scratch, sums, PAGE, 1, EPS, a, b, out)
    return out.cpu()


def _whole_error(
    relation: Callable[..., Tensor],
    oracle: Callable[..., Tensor],
    drawn: list[Tensor],
    device: torch.device,
) -> float:
    """Of a relation over whole sequences, and of its gradients.

    Args:
        relation, oracle: of readers and memories, in float32 and in float64.
        drawn: these two, and the gradient of the result.
        device: to compute on.
    """
    found = []
    for a, b, g in ([one.to(device) for one in drawn], [one.double() for one in drawn]):
        a, b = a.requires_grad_(), b.requires_grad_()
        if a.dtype == torch.float64:
            out = oracle(a, b)
        else:
            with as_on_device():
                out = relation(a, b)
        found.append([out.detach(), *torch.autograd.grad(out, (a, b), g)])
    errors = []
    for got, exact in zip(*found, strict=True):
        largest = exact.abs().amax(-1, keepdim=True)
        errors.append(((got.cpu() - exact).abs() / (largest + 1e-6 * largest.max())).max())
    return float(max(errors))


def _draws_error(n: int, device: torch.device) -> float:
    """Of n draws from one row of logits."""
    logits = 2 * torch.randn(
        1, ByteTokenizer.vocab_size, generator=torch.Generator().manual_seed(0)
    )
    params = SamplingParams(temperature=1.0, seed=1)
    draws = Sampler(params).draws([0] * (n - 1), [None] * n)
    made = Inputs.alone(nobody(), device, draws=[RowDraw(0, draw) for draw in draws]).draws
    out = torch.empty(n, dtype=torch.int64, device=device)
    make_draws(logits.to(device), logits.argmax(-1).to(device), made, out)
    likely = logits[0].double().softmax(0)
    counts = torch.bincount(out.cpu(), minlength=len(likely))
    off = (counts - n * likely).abs() / (n * likely * (1 - likely)).sqrt().clamp(min=1.0)
    return float(off.max())


def _form(n_keys: int, n_values: int, tau: float, recency: float, device: torch.device) -> Form:
    return Form(
        n_keys, n_values, torch.tensor([tau], device=device),
        is_blunt(tau, recency, 0.0, n_keys + n_values), full_matches(torch.ones(1, device=device)),
        recency, 0.0, EPS, speaks=False, tells_match=False,
    )  # fmt: skip


def _keyed(form: Form, a: Tensor, b: Tensor, device: torch.device) -> Tensor:
    n_pages, n = -(-len(a) // PAGE), form.n_keys
    scratch = DeviceScratch(device)
    scratch.batch = batch_of(1, len(a), 0, device)
    pool = {
        "keys": torch.zeros(n_pages, form.n_blocks, PAGE, 16, device=device),
        "values": torch.zeros(n_pages, PAGE, form.n_values, device=device),
        "moments": torch.zeros(n_pages, 4, PAGE, 1, device=device),
    }
    keys, values = (part.contiguous().to(device) for part in b.split([n, form.n_values], 1))
    said = a[:, :n].contiguous().to(device)
    remember(scratch, form, pool, PAGE, said, keys, values)
    out = torch.empty(len(a), form.n_values, device=device)
    relate_all(scratch, form, pool, PAGE, said, said, out)
    return out.cpu()


def _logits(checkpoint: Path, backend: str, length: int) -> Tensor:
    model = load_checkpoint(checkpoint, backend)
    ids = [model.config.bos_id, *np.random.default_rng(0).integers(0, 200, length).tolist()]
    batch = RaggedBatch(
        np.array(ids), np.array([0, len(ids)]), np.zeros(1, np.int64), np.zeros(1, np.int64),
        np.arange(-(-len(ids) // PAGE), dtype=np.int32)[None],
    )  # fmt: skip
    state = model.decoder.new_state(n_pages=batch.block_tables.size, page_size=PAGE, n_slots=1)
    return model.decoder.extend(batch, state, np.arange(len(ids))).logits


def _logits_of_peer(mixer: str, backend: str, length: int) -> Tensor:
    """After each of some tokens, of two blocks with random weights."""
    params = {"d_attention": 192, "n_head": 2}
    config = ModelConfig.from_dict(
        {
            "vocab_size": 29, "bos_id": 0, "sep_id": 1, "eos_id": 2, "d_model": 192,
            "blocks": [{"mixer": mixer, "params": params, "mlp": {"width": 768}}] * 2,
            "positions": "none", "max_seq_len": length,
        }
    )  # fmt: skip
    torch.manual_seed(0)
    decoder = Decoder(config, backend).requires_grad_(False)
    decoder.to(decoder.backend.device)
    ids = np.random.default_rng(0).integers(3, 29, length)
    tables = np.arange(-(-length // PAGE), dtype=np.int32)[None]
    batch = RaggedBatch(ids, np.array([0, length]), np.zeros(1, np.int64), np.zeros(1, int), tables)
    state = decoder.new_state(n_pages=tables.size, page_size=PAGE, n_slots=1)
    return decoder.extend(batch, state, np.arange(length)).logits


def _records_error(checkpoint: Path, n_steps: int) -> float:
    """By how much steps that are played from records differ from launched ones: by no bit."""
    found = []
    for plays in (True, False):
        model = load_checkpoint(checkpoint, "gpu")
        state = model.decoder.new_state(n_pages=3, page_size=PAGE, n_slots=3)
        state.scratch.records = plays
        tables = np.arange(3, dtype=np.int32)[:, None]
        logits = []
        for step in range(n_steps):
            ids = np.array([65, 66, 67]) + step % 7
            held = np.full(3, step)
            batch = RaggedBatch(ids, np.arange(4), held, np.arange(3), tables)
            logits.append(model.decoder.extend(batch, state).logits)
        found.append(torch.stack(logits))
    return float((found[0] - found[1]).abs().max())


def _error(got: Tensor, exact: Tensor) -> float:
    return float(((got - exact).abs().amax(-1) / exact.abs().amax(-1)).max())
