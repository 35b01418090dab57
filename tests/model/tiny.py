"""Models small enough that a test makes, trains and decodes them in moments."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import torch

from causalrn.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from causalrn.model.config import ModelConfig
from causalrn.model.decoder import Decoder
from causalrn.model.draws import RowDraw
from causalrn.model.pool_dtype import PoolDtype
from causalrn.model.predictions import Predictions
from causalrn.model.state import LayerSpec, RaggedBatch, TensorSpec
from causalrn.model.tasks.copying import Copying, CopyingParams
from causalrn.model.tokenizers.registry import make_tokenizer

TINY = Path(__file__).parent / "training" / "tiny.toml"


def blocks(
    *mixers: str,
    recall_blocks: int = 0,
    recall_shift_width: int = 0,
    mlp_width: int | None = None,
    mlp_shift_width: int = 1,
    **params: Any,
) -> list[dict[str, Any]]:
    """Blocks of these mixers, all with the same parameters.

    Args:
        mixers: their names, first block first.
        recall_blocks: the first ones, which write in turns of recall alone.
        recall_shift_width: taps of these.
        mlp_width: of an MLP in every block; None for none.
        mlp_shift_width: taps in front of it.
        params: of the mixers; of attention, its width and heads are those of the relations.
    """
    made: list[dict[str, Any]] = []
    for number, name in enumerate(mixers):
        block: dict[str, Any] = {"mixer": name, "params": dict(params)}
        if number < recall_blocks:
            block["params"]["shift_width"] = recall_shift_width
            block["phases"] = ["recall"]
        if name.endswith("attention"):
            block["params"] = {"d_attention": params["d_relation"], "n_head": params["n_head"]}
        if name == "matrix_state":
            block["params"] = {"d_key": 5, "d_value": 7, "n_head": 2, "n_writes": 2, "fades": True}
        if name == "taps":
            block["params"] = {"width": 20, "shift_width": params["shift_width"]}
        if mlp_width is not None:
            block["mlp"] = {"width": mlp_width, "shift_width": mlp_shift_width}
        made.append(block)
    return made


RELATION = {"d_relation": 16, "n_head": 2, "shift_width": 3}
"""Parameters of the relations of `tiny_config`."""


def tiny_config(
    tokenizer: str = "letters",
    *,
    mixers: Sequence[str] = ("separable", "normalized"),
    recall_blocks: int = 0,
    recall_shift_width: int = 0,
    mlp_width: int | None = None,
    mlp_shift_width: int = 1,
    params: Mapping[str, Any] = MappingProxyType({}),
    **changes: Any,
) -> ModelConfig:
    """Two blocks, one of each relation, with the ids of a tokenizer.

    Args:
        tokenizer: its name.
        mixers, recall_blocks, recall_shift_width, mlp_width, mlp_shift_width: see `blocks`.
        params: other parameters of the relations.
        changes: other values of the configuration itself.
    """
    ids = make_tokenizer(tokenizer, Path())
    values: dict[str, Any] = {
        "vocab_size": ids.vocab_size,
        "bos_id": ids.bos_id,
        "sep_id": ids.sep_id,
        "eos_id": ids.eos_id,
        "d_model": 24,
        "blocks": blocks(
            *mixers,
            recall_blocks=recall_blocks,
            recall_shift_width=recall_shift_width,
            mlp_width=mlp_width,
            mlp_shift_width=mlp_shift_width,
            **(RELATION | dict(params)),
        ),
        "positions": "coupled",
        "d_position": 8,
        "max_seq_len": 4096,
    }
    return ModelConfig.from_dict(values | changes)


def tiny_task(config: ModelConfig, tokenizer: str = "letters") -> Copying:
    """Copying of single tokens, which every model has room for."""
    params = CopyingParams(max_length=1, max_offset=1, window=6)
    return Copying(params, make_tokenizer(tokenizer, Path()), config)


def random_checkpoint(
    folder: Path, tokenizer: str = "letters", *, pool_dtype: PoolDtype = "float32", **changes: Any
) -> Checkpoint:
    """Write and load a decoder of parameters so large that its outputs wander."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        decoder = Decoder(tiny_config(tokenizer, **changes))
        with torch.no_grad():
            for parameter in decoder.parameters():
                parameter.normal_()
    task = tiny_task(decoder.config, tokenizer)
    save_checkpoint(folder, decoder, make_tokenizer(tokenizer, Path()), task)
    return load_checkpoint(folder, pool_dtype=pool_dtype)


Script = Callable[[list[int]], int]
Matching = Callable[[list[int]], float | None]


class ScriptedState:
    """Tokens in place of memories: those of each slot, and those that lie in each page."""

    def __init__(self, n_pages: int, page_size: int, n_slots: int) -> None:
        self.slots: list[list[int]] = [[] for _ in range(n_slots)]
        self.pages = np.full((n_pages, page_size), -1)

    def copy_state(self, source: int, target: int) -> None:
        self.slots[target] = list(self.slots[source])

    def copy_page(self, page: int, copy: int) -> None:
        self.pages[copy] = self.pages[page]


class ScriptedDecoder:
    """Stands in for a `Decoder`: what comes after a sequence is what a script says.

    It checks that batches are put together as `RaggedBatch` demands.

    Args:
        vocab_size: of its logits.
        script: is given all tokens of a sequence, and says which one comes next.
        matching: is given the same, and says how well what it looks for was found.
    """

    def __init__(self, vocab_size: int, script: Script, matching: Matching) -> None:
        self.vocab_size, self.script, self.matching = vocab_size, script, matching

    pool_dtype: PoolDtype = "float32"
    samples = False
    specs = (LayerSpec((TensorSpec("token", (1,)),)),)  # four bytes a token

    def new_state(self, *, n_pages: int, page_size: int, n_slots: int) -> ScriptedState:
        return ScriptedState(n_pages, page_size, n_slots)

    def match(self, state: ScriptedState, slot: int) -> float | None:
        return self.matching(state.slots[slot])

    def extend(
        self, batch: RaggedBatch, state: ScriptedState, *, draws: Sequence[RowDraw]
    ) -> Predictions:
        assert not draws
        assert len(set(batch.slots.tolist())) == len(batch.slots)
        logits = np.zeros((len(batch.slots), self.vocab_size), np.float32)
        n_pages, size = state.pages.shape
        read: list[int] = []
        written: list[int] = []
        for s, slot in enumerate(batch.slots.tolist()):
            tokens = state.slots[slot]
            held = len(tokens)
            assert batch.context_lens[s] == held
            new = batch.token_ids[batch.starts[s] : batch.starts[s + 1]].tolist()
            assert new
            tokens += new
            table = batch.block_tables[s, : -(-len(tokens) // size)].tolist()
            read += table[: held // size]
            written += table[held // size :]
            for place, token in enumerate(new, held):
                state.pages[table[place // size], place % size] = token
            if len(new) > 1:  # checking each token would take long
                assert state.pages[table].flatten()[: len(tokens)].tolist() == tokens
            logits[s, self.script(tokens)] = 1.0
        assert len(set(written)) == len(written)
        assert set(read).isdisjoint(written)
        assert all(0 <= page < n_pages for page in (*read, *written))
        return Predictions.of(torch.from_numpy(logits))


def scripted_checkpoint(
    script: Script,
    tokenizer: str = "letters",
    max_seq_len: int = 4096,
    matching: Matching = lambda _: None,
) -> Checkpoint:
    """A checkpoint whose decoder follows a script, which is asked for recalls, too."""
    config = tiny_config(tokenizer, max_seq_len=max_seq_len, recall=True)
    decoder = cast(Decoder, ScriptedDecoder(config.vocab_size, script, matching))
    task = tiny_task(config, tokenizer)
    ids = make_tokenizer(tokenizer, Path())
    return Checkpoint("scripted", Path("scripted"), config, ids, task, decoder, "0" * 64)


def copying(
    config: ModelConfig, change: Callable[[Sequence[int]], Sequence[int]] = lambda source: source
) -> Script:
    """A script that answers `BOS s SEP` with `change(s)` and EOS."""

    def script(tokens: list[int]) -> int:
        assert tokens[0] == config.bos_id
        if config.sep_id not in tokens:
            return config.eos_id  # a prompt that is read in parts; nobody asks yet
        middle = tokens.index(config.sep_id)
        answer = [*change(tokens[1:middle]), config.eos_id]
        return answer[len(tokens) - middle - 1]

    return script


def answering(
    config: ModelConfig,
    copy: Callable[[Sequence[int]], Sequence[int]] = lambda source: source,
    recall: Callable[[int, int], int] = lambda _, right: right,
    *,
    youngest: bool = False,
) -> Script:
    """A script for sessions: `copying` in each turn, or going on like what was read earlier.

    A turn of recall of which n tokens are there goes on with `recall(n, right)`, by the oldest
    place where they were read, or by the youngest; if they never were, with EOS. Where a turn is
    not complete, or over, nobody asks; EOS then.
    """

    def script(tokens: list[int]) -> int:
        begin = len(tokens) - 1 - tokens[::-1].index(config.bos_id)
        middle = tokens.index(config.sep_id, begin) if config.sep_id in tokens[begin:] else begin
        turn = tokens[middle + 1 :]
        if middle != begin + 1:
            answer = [*copy(tokens[begin + 1 : middle]), config.eos_id]
            return answer[len(turn)] if len(turn) < len(answer) else config.eos_id
        every = reversed(range(begin)) if youngest else range(begin)
        places = (i for i in every if tokens[i : i + len(turn)] == turn)
        if (place := next(places, None)) is None:
            return config.eos_id
        right = tokens[place + len(turn)]
        return recall(len(turn), config.eos_id if right == config.sep_id else right)

    return script
