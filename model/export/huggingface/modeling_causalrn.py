"""A CausalRN in plain torch, for `transformers`. This file is copied into every export.

It computes whole sequences anew for every token, in float32, and in float64 what is compared to the
last bits. To serve a model, use the project that exported it.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from .configuration_causalrn import CausalRNConfig

SOURCE, OUTPUT, RECALL = "source", "output", "recall"
_READERS = 64  # whose pairs are computed at once
_BASE = 10000.0  # of rotations
_LEAST = 1e-10  # is added to what linear attention divides by


def norm(x: Tensor, eps: float) -> Tensor:
    """`(x - mean) / (std + eps)` over the last axis."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True).sqrt() + eps)


def shifted(x: Tensor, taps: Tensor, reaches: Tensor) -> Tensor:
    """Convolve `x` `[B, T, D]` with `taps` `[W, D]`, as far as each token reaches, `[B, T]`."""
    total = x * taps[0]
    for k in range(1, len(taps)):
        past = nn.functional.pad(x, (0, 0, k, 0))[:, : x.shape[1]]
        total = total + past * taps[k] * (reaches >= k)[..., None]
    return total


class Places:
    """Where tokens stand: positions, phases and reaches `[B, T]`, and codes `[B, T, P]`."""

    def __init__(self, ids: Tensor, shape: dict[str, Any]) -> None:
        found = [self._places(row, shape) for row in ids.tolist()]
        indices, phases, reaches = zip(*found, strict=True)
        self.phases: list[list[str]] = list(phases)
        self.indices = torch.tensor(indices, device=ids.device)
        self.reaches = torch.tensor(reaches, device=ids.device)
        balanced = shape["balanced_places"]
        width = shape["d_position"]
        codes = [[_code(index, width, balanced=balanced) for index in row] for row in indices]
        self.codes = torch.tensor(codes, device=ids.device).view(*ids.shape, width)

    @staticmethod
    def _places(ids: list[int], shape: dict[str, Any]) -> tuple[list[int], list[str], list[int]]:
        coupled, recall = shape["positions"] == "coupled", shape["recall"]
        opened = index = 0
        indices, phases, reaches = [], [], []
        for seen, token_id in enumerate(ids):
            reach = seen
            if coupled and token_id == shape["bos_id"]:
                opened = index = seen
                reach = 0
            elif coupled and opened >= 0:
                reach = seen - opened
                if token_id == shape["sep_id"]:
                    index = opened
                    if recall and reach == 1:
                        index, reach = -1, 0
                    opened = -1 - opened
            elif coupled:
                reach = (seen - 1 if index < 0 else index) + 1 + opened
            indices.append(index)
            reaches.append(reach)
            phases.append(SOURCE if opened >= 0 else RECALL if index < 0 else OUTPUT)
            index = -1 if index < 0 else index + 1
        return indices, phases, reaches


def _code(index: int, width: int, *, balanced: bool) -> list[float]:
    """The bits of a hash of a position as ±1; zeros where there is none."""
    if index < 0:
        return [0.0] * width
    n = width // 2 if balanced else width
    code: list[float] = []
    word = 0
    while len(code) < n:
        bits = _splitmix64(index * 64 + word)
        code += [1.0 if bits >> i & 1 else -1.0 for i in range(min(64, n - len(code)))]
        word += 1
    return code + [-one for one in code[: width - n]]


def _splitmix64(x: int) -> int:
    mask = 2**64 - 1
    z = (x + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


class Relation(nn.Module):
    """The relations: `normalized`, also in its keyed form, and `separable`."""

    def __init__(self, mixer: str, params: dict[str, Any], d_model: int, eps: float) -> None:
        super().__init__()
        self.params, self.eps, self.is_separable = params, eps, mixer == "separable"
        width = params["d_relation"]
        n_values = params.get("d_value") or width
        n_keys = width - n_values
        self.n_keys, self.n_values = n_keys, n_values
        is_silent, is_tied = params.get("silent_values"), params.get("tied_keys")
        self.reader = nn.Linear(d_model, n_keys if is_silent else width)
        self.memory = nn.Linear(d_model, n_values if is_tied else width, bias=False)
        self.output = nn.Linear(n_values, d_model)
        temperature, recency = params.get("temperature", 1.0), params.get("recency", 0.0)
        self.is_keyed = n_keys > 0 or temperature != 1 or recency > 0
        if self.is_keyed:
            self.temperature = nn.Parameter(torch.tensor(float(temperature)))
            if params["tells_match"]:
                self.tap_energy: Tensor
                energy = torch.ones(max(1, params["shift_width"] - 1))
                self.register_buffer("tap_energy", energy)
        self.shift: nn.ParameterDict | None = None
        if params["shift_width"] > 1:
            first, end = params["shift_channels"] or (0, d_model)
            weight = nn.Parameter(torch.zeros(2, params["shift_width"], end - first))
            self.shift = nn.ParameterDict({"weight": weight})

    def forward(self, x: Tensor, reaches: Tensor) -> Tensor:
        """What is added to the residual stream `[B, T, D]`."""
        xa = xb = x
        if self.shift is not None:
            xa, xb = self._shifted(x, reaches)
        a, b = self.reader(xa), self.memory(xb)
        if self.is_keyed:
            if self.params["tied_keys"]:
                b = torch.cat([nn.functional.linear(xb, -self.reader.weight[: self.n_keys]), b], -1)
            related = self._keyed(a, b, reaches)
        else:
            heads = (self.params["n_head"], -1)
            a, b = a.unflatten(-1, heads), b.unflatten(-1, heads)
            related = self._separable(a, b) if self.is_separable else self._normalized(a, b)
            related = related.flatten(-2)
        written: Tensor = self.output(norm(related.to(x), self.eps))
        return written

    def _shifted(self, x: Tensor, reaches: Tensor) -> tuple[Tensor, Tensor]:
        assert self.shift is not None
        weight = self.shift["weight"]
        first, end = self.params["shift_channels"] or (0, x.shape[-1])
        if not self.params["within_turn"]:
            reaches = torch.full_like(reaches, x.shape[1])
        readers, memories = (
            torch.cat([x[..., :first], shifted(x[..., first:end], taps, reaches), x[..., end:]], -1)
            for taps in weight
        )
        return readers, memories

    def _separable(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = norm(a.double(), self.eps), norm(b.double(), self.eps)
        counts = torch.arange(1, a.shape[1] + 1, device=a.device)[:, None, None]
        return a.exp() * b.exp().cumsum(1) / counts

    def _normalized(self, a: Tensor, b: Tensor) -> Tensor:
        parts = []
        for first in range(0, a.shape[1], _READERS):
            own = a[:, first : first + _READERS].double()
            end = first + own.shape[1]
            pairs = norm(own[:, :, None] + b[:, None, :end].double(), self.eps).exp()
            places = torch.arange(first, end, device=a.device)
            seen = places[:, None] >= torch.arange(end, device=a.device)
            total = pairs.where(seen[None, :, :, None, None], 0.0).sum(2)
            parts.append(total / (places + 1)[:, None, None])
        return torch.cat(parts, 1)

    def _keyed(self, a: Tensor, b: Tensor, reaches: Tensor) -> Tensor:
        a = nn.functional.pad(a, (0, b.shape[-1] - a.shape[-1])).double()
        b, parts = b.double(), []
        for first in range(0, a.shape[1], _READERS):
            own = slice(first, min(first + _READERS, a.shape[1]))
            pairs = a[:, own, None] + b[:, None, : own.stop]
            z = self._values(pairs, reaches, own)
            places = torch.arange(own.start, own.stop, device=a.device)
            ages = places[:, None] - torch.arange(own.stop, device=a.device)
            aged = self.params["recency"] * ages.clamp(min=0).double().log1p()
            exponents = self.temperature.double() * z - aged[..., None]
            exponents = exponents.masked_fill((ages < 0)[..., None], -torch.inf)
            parts.append((exponents - exponents.amax((2, 3), keepdim=True)).exp().sum(2))
        return torch.cat(parts, 1)

    def _values(self, pairs: Tensor, reaches: Tensor, own: slice) -> Tensor:
        """The value channels of normalized pairs `[B, readers, memories, R]`."""
        tolerance = self.params["tolerance"]
        if tolerance == 0:
            return norm(pairs, self.eps)[..., -self.n_values :]
        energy = self.tap_energy.double()
        taps = torch.arange(len(energy), device=pairs.device)
        by_memory = taps < reaches[:, None, : own.stop, None] - 1
        by_reader = taps < reaches[:, own, None, None]
        full = 1e-12 * energy[0] + (energy * (by_memory & ~by_reader)).sum(-1)
        keys, values = pairs.split([self.n_keys, self.n_values], -1)
        width = pairs.shape[-1]
        left = (keys.square().sum(-1) - tolerance * full).clamp(min=0)
        mean = values.sum(-1) / width
        variance = (left + values.square().sum(-1)) / width - mean**2
        deviation = variance.clamp(min=0).sqrt() + self.eps
        found: Tensor = (values - mean[..., None]) / deviation[..., None]
        return found


class Attention(nn.Module):
    """Softmax attention, and linear attention."""

    def __init__(self, mixer: str, params: dict[str, Any], d_model: int) -> None:
        super().__init__()
        self.params, self.is_linear = params, mixer == "linear_attention"
        self.inputs = nn.Linear(d_model, 3 * params["d_attention"])
        self.output = nn.Linear(params["d_attention"], d_model)

    def forward(self, x: Tensor, reaches: Tensor) -> Tensor:  # noqa: ARG002
        """What is added to the residual stream `[B, T, D]`."""
        n_head = self.params["n_head"]
        q, k, v = self.inputs(x).double().unflatten(-1, (3, n_head, -1)).transpose(1, 3).unbind(2)
        attended = self._linear(q, k, v) if self.is_linear else self._softmax(q, k, v)
        written: Tensor = self.output(attended.transpose(1, 2).flatten(-2).to(x))
        return written

    def _softmax(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Of `[B, H, T, K]` each."""
        if self.params["rotary"]:
            q, k = _rotated(q), _rotated(k)
        length = q.shape[2]
        places = torch.arange(length, device=q.device)
        ages = places[:, None] - places
        windows = self.params["windows"] or [0] * q.shape[1]
        seen = [(ages >= 0) & (ages < (window or length)) for window in windows]
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        return scores.masked_fill(~torch.stack(seen), -torch.inf).softmax(-1) @ v

    def _linear(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = nn.functional.elu(q) + 1, nn.functional.elu(k) + 1
        weights = (q @ k.transpose(-1, -2)).tril()
        return weights @ v / (weights.sum(-1, keepdim=True) + _LEAST)


def _rotated(x: Tensor) -> Tensor:
    """Turned by places; the first half of the channels are real parts, the second imaginary."""
    first, second = x.chunk(2, -1)
    half = first.shape[-1]
    powers = -torch.arange(half, dtype=x.dtype, device=x.device) / half
    angles = torch.arange(x.shape[-2], dtype=x.dtype, device=x.device)[:, None] * _BASE**powers
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


class Mlp(nn.Module):
    """The channel MLP, maybe behind a convolution."""

    def __init__(self, width: int, shift_width: int, d_model: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(d_model, width), nn.Linear(width, d_model)
        self.taps = nn.Parameter(torch.zeros(shift_width, d_model)) if shift_width > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """What is added to the residual stream `[B, T, D]`."""
        if self.taps is not None:
            x = shifted(x, self.taps, torch.full(x.shape[:2], x.shape[1], device=x.device))
        written: Tensor = self.down(nn.functional.gelu(self.up(x), approximate="tanh"))
        return written


class Embedding(nn.Module):
    """Tables of tokens, places and phases."""

    def __init__(self, shape: dict[str, Any]) -> None:
        super().__init__()
        self.token = nn.Embedding(shape["vocab_size"], shape["d_model"] - shape["d_position"])
        if shape["positions"] == "learned":
            self.position = nn.Embedding(shape["max_seq_len"], shape["d_model"])
        if shape["positions"] == "coupled":
            self.phase = nn.Embedding(3 if shape["recall"] else 2, shape["d_model"])

    def forward(self, ids: Tensor, places: Places) -> Tensor:
        """The residual stream `[B, T, D]`."""
        x: Tensor = self.token(ids)
        if hasattr(self, "position"):
            return x + self.position(places.indices)
        if hasattr(self, "phase"):
            numbers = {SOURCE: 0, OUTPUT: 1, RECALL: 2}
            phases = [[numbers[phase] for phase in row] for row in places.phases]
            x = torch.cat([x, places.codes.to(x)], -1)
            return x + self.phase(torch.tensor(phases, device=ids.device))
        return x


class CausalRNForCausalLM(PreTrainedModel, GenerationMixin):
    """A CausalRN with the classifier that gives its logits."""

    config_class = CausalRNConfig
    base_model_prefix = ""

    def __init__(self, config: CausalRNConfig) -> None:
        super().__init__(config)
        shape = config.shape
        self.embedding = Embedding(shape)
        self.mixers, self.mlps = nn.ModuleList(), nn.ModuleDict()
        for number, block in enumerate(shape["blocks"]):
            mixer, params = block["mixer"], block["params"]
            if "attention" in mixer:
                self.mixers.append(Attention(mixer, params, shape["d_model"]))
            else:
                self.mixers.append(Relation(mixer, params, shape["d_model"], shape["norm_eps"]))
            if mlp := block.get("mlp"):
                taps = mlp.get("shift_width", 1)
                self.mlps[str(number)] = Mlp(mlp["width"], taps, shape["d_model"])
        self.classifier = nn.Linear(shape["d_model"], shape["vocab_size"], bias=False)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Weights come from the checkpoint."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **_: Any,
    ) -> CausalLMOutput:
        """Logits `[B, T, V]` of whole sequences of the same length, without padding."""
        if attention_mask is not None and not attention_mask.all():
            raise ValueError("a CausalRN takes no padding: give prompts of the same length")
        shape = self.config.shape
        eps, places = shape["norm_eps"], Places(input_ids, shape)
        x = self.embedding(input_ids, places)
        for number, block in enumerate(shape["blocks"]):
            phases = block.get("phases")
            active = [[phases is None or one in phases for one in row] for row in places.phases]
            mask = torch.tensor(active, device=x.device)[..., None]
            x = x + self.mixers[number](norm(x, eps), places.reaches) * mask
            if str(number) in self.mlps:
                x = x + self.mlps[str(number)](norm(x, eps)) * mask
        logits = self.classifier(norm(x, eps))
        loss = None
        if labels is not None:
            flat = logits[:, :-1].flatten(0, 1)
            loss = nn.functional.cross_entropy(flat, labels[:, 1:].flatten())
        return CausalLMOutput(loss=loss, logits=logits)

    def prepare_inputs_for_generation(self, input_ids: Tensor, **_: Any) -> dict[str, Tensor]:
        """Each step reads the whole sequence anew."""
        return {"input_ids": input_ids}
