"""Writes a Llama of random weights as GGUF, in the environment of llama.cpp."""

from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.peers.worker import FIRST_CHARACTER

_HEAD = 64
_STD = 0.02
_NORM_EPS = 1e-6
_MOST_TOKENS = 16_384


def write_model(file: Path, vocab_size: int, width: int, n_layers: int) -> int:
    """Write a model in float32 whose every token is one character.

    Args:
        file: where to.
        vocab_size: number of tokens.
        width: of the model; the feed-forward has four times as many channels.
        n_layers: number of layers.

    Returns:
        The number of parameters.
    """
    gguf: Any = import_module("gguf")
    numpy: Any = import_module("numpy")
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_context_length(_MOST_TOKENS)
    writer.add_embedding_length(width)
    writer.add_block_count(n_layers)
    writer.add_feed_forward_length(4 * width)
    writer.add_head_count(width // _HEAD)
    writer.add_head_count_kv(width // _HEAD)
    writer.add_rope_dimension_count(_HEAD)
    writer.add_layer_norm_rms_eps(_NORM_EPS)
    writer.add_vocab_size(vocab_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([chr(FIRST_CHARACTER + id) for id in range(vocab_size)])
    writer.add_token_scores([0.0] * vocab_size)
    writer.add_token_types([gguf.TokenType.NORMAL] * vocab_size)
    rng = numpy.random.default_rng(0)
    n_parameters = 0
    for name, shape in _shapes(vocab_size, width, n_layers).items():
        is_norm = len(shape) == 1
        values = numpy.ones(shape) if is_norm else rng.normal(0, _STD, shape)
        writer.add_tensor(name, values.astype(numpy.float32))
        n_parameters += values.size
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return n_parameters


def _shapes(vocab_size: int, width: int, n_layers: int) -> dict[str, tuple[int, ...]]:
    wide = 4 * width
    layer: dict[str, tuple[int, ...]] = {
        "attn_norm": (width,),
        "attn_q": (width, width),
        "attn_k": (width, width),
        "attn_v": (width, width),
        "attn_output": (width, width),
        "ffn_norm": (width,),
        "ffn_gate": (wide, width),
        "ffn_up": (wide, width),
        "ffn_down": (width, wide),
    }
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (vocab_size, width)}
    for number in range(n_layers):
        shapes |= {f"blk.{number}.{name}.weight": shape for name, shape in layer.items()}
    return shapes | {"output_norm.weight": (width,), "output.weight": (vocab_size, width)}
