"""Mixers beside what others made of the same formulas, with the same weights."""

import importlib.util
from importlib.metadata import files
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import elu, normalize
from transformers import GPT2Config, LlamaConfig
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding

from causalrn.model.mixers.attention import Attention, LinearAttention
from causalrn.model.ops.matrix_state import matrix_state

D, HEADS, LENGTH = 48, 4, 70
TOLERANCE = 1e-5


def _mixer(
    kind: type[Attention] | type[LinearAttention], **options: Any
) -> Attention | LinearAttention:
    torch.manual_seed(0)
    params: Any = kind.Params(d_attention=D, n_head=HEADS, **options)
    mixer = kind(params, D, norm_eps=1e-6, n_blocks=2).requires_grad_(False)
    for parameter in mixer.parameters():
        parameter.normal_(std=0.3)
    return mixer


def _inputs() -> tuple[Tensor, Tensor]:
    x = torch.randn(2, LENGTH, D, generator=torch.Generator().manual_seed(1))
    return x, torch.zeros(2, LENGTH, dtype=torch.long)


def test_attention_is_that_of_transformers() -> None:
    mixer = _mixer(Attention)
    config = GPT2Config(n_embd=D, n_head=HEADS, n_positions=LENGTH)
    config._attn_implementation = "eager"
    theirs: Any = GPT2Attention(config, layer_idx=0)  # type: ignore[no-untyped-call]
    theirs.eval().requires_grad_(False)
    for own, other in ((mixer.inputs, theirs.c_attn), (mixer.output, theirs.c_proj)):
        other.weight.copy_(own.weight.T)
        other.bias.copy_(own.bias)
    x, reaches = _inputs()
    mask = torch.full((LENGTH, LENGTH), -torch.inf).triu(1)[None, None]
    expected = theirs(x, attention_mask=mask)[0]
    torch.testing.assert_close(mixer(x, reaches, None), expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_rotary_attention_is_that_of_llama() -> None:
    """Its angles are float32, which the scores here magnify; so they are compared by themselves."""
    mixer = _mixer(Attention, rotary=True)
    config = LlamaConfig(
        hidden_size=D, num_attention_heads=HEADS, num_key_value_heads=HEADS, attention_bias=True,
        max_position_embeddings=LENGTH,
    )  # fmt: skip
    config._attn_implementation = "eager"
    theirs: Any = LlamaAttention(config, layer_idx=0)
    theirs.eval().requires_grad_(False)
    for name in ("weight", "bias"):
        parts = getattr(mixer.inputs, name).chunk(3)
        for other, own in zip((theirs.q_proj, theirs.k_proj, theirs.v_proj), parts, strict=True):
            getattr(other, name).copy_(own)
        getattr(theirs.o_proj, name).copy_(getattr(mixer.output, name))
    x, reaches = _inputs()
    places = torch.arange(LENGTH)[None]
    steps = torch.arange(0, D // HEADS, 2, dtype=torch.float64)
    angles = (places[..., None] * 10000.0 ** (-steps / (D // HEADS))).repeat(1, 1, 2)
    exact = angles.cos().float(), angles.sin().float()
    turns: Any = LlamaRotaryEmbedding(config)
    torch.testing.assert_close(turns(x, places), exact, rtol=TOLERANCE, atol=TOLERANCE)
    mask = torch.full((LENGTH, LENGTH), -torch.inf).triu(1)[None, None]
    expected = theirs(x, position_embeddings=exact, attention_mask=mask)[0]
    torch.testing.assert_close(mixer(x, reaches, None), expected, rtol=TOLERANCE, atol=TOLERANCE)


def _naive(module: str) -> ModuleType:
    """A module of flash-linear-attention, without its package, which looks for a GPU."""
    (file,) = (f for f in files("fla-core") or () if str(f) == module.replace(".", "/") + ".py")
    spec = importlib.util.spec_from_file_location(module, str(file.locate()))
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_the_delta_rule_is_that_of_flash_linear_attention() -> None:
    generator = torch.Generator().manual_seed(2)
    q, k, v = torch.randn(3, 2, HEADS, LENGTH, 8, generator=generator)
    k, beta = normalize(k, dim=-1), 2 * torch.rand(2, HEADS, LENGTH, generator=generator)
    naive = _naive("fla.ops.delta_rule.naive").delta_rule_recurrence
    expected, _ = naive(q, k, v, beta)
    inputs = (q / 8**0.5, k[:, :, :, None], v[:, :, :, None], beta[..., None])
    ours = [x.transpose(1, 2) for x in inputs]
    got = matrix_state(ours[0], ours[1], ours[2], ours[3], None, corrects=True)
    torch.testing.assert_close(got.transpose(1, 2), expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_linear_attention_is_that_of_flash_linear_attention() -> None:
    mixer = _mixer(LinearAttention)
    x, reaches = _inputs()
    q, k, v = mixer.inputs(x).unflatten(-1, (3, HEADS, -1)).unbind(2)
    naive = _naive("fla.ops.linear_attn.naive").naive_recurrent_linear_attn
    attended, _ = naive(elu(q) + 1, elu(k) + 1, v, scale=1.0, normalize=True)
    expected = mixer.output(attended.flatten(-2))
    torch.testing.assert_close(mixer(x, reaches, None), expected, rtol=TOLERANCE, atol=TOLERANCE)
