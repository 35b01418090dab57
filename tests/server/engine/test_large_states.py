"""Layers of a large state, kept at chosen boundaries only: any history gives a fresh one's bits."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from causalrn.model.checkpoint import Checkpoint
from causalrn.model.config import ModelConfig
from causalrn.model.decoder import Decoder
from causalrn.model.sampling import TokenLogprob, token_logprob
from causalrn.model.state import RaggedBatch
from causalrn.model.tasks.copying import Copying, CopyingParams
from causalrn.model.tokenizers.alphabet import LetterTokenizer
from causalrn.server.engine.storage import allocate, pool_bytes
from causalrn.server.settings import Settings
from tests.server.conftest import make_settings
from tests.server.driver import Driver
from tests.toys import toys

D_MODEL, PAGE_SIZE, MAX_TOKENS = 16, 16, 6
SIZES = {"1 KiB": 8, "1 MiB": 8192}  # rows of the state of each layer, of 128 bytes each
TEXTS = [letters * n for n in (2, 6, 14) for letters in ("abcde", "xyzzy")]


@pytest.fixture(scope="module", autouse=True)
def _toys() -> Iterator[None]:
    with toys():
        yield


@pytest.fixture(scope="module", params=SIZES)
def model(request: pytest.FixtureRequest) -> Checkpoint:
    tokenizer = LetterTokenizer()
    mlp = {"width": 8, "shift_width": 4}  # has a state of its own
    mean = {"mixer": "mean", "params": {"n_rows": SIZES[request.param]}, "mlp": mlp}
    relation = {"mixer": "normalized", "params": {"d_relation": 8, "shift_width": 3}, "mlp": mlp}
    config = ModelConfig.from_dict(
        {
            "vocab_size": 29, "bos_id": 0, "sep_id": 1, "eos_id": 2, "d_model": D_MODEL,
            "blocks": [mean, relation, mean], "positions": "coupled", "d_position": 4,
            "max_seq_len": 4096,
        }
    )  # fmt: skip
    torch.manual_seed(0)
    decoder = Decoder(config).requires_grad_(False)
    for parameter in decoder.parameters():
        parameter.mul_(5)
    task = Copying(CopyingParams(max_length=1), tokenizer, config)
    return Checkpoint("toy", Path("toy"), config, tokenizer, task, decoder, "0" * 64)


def sized(model: Checkpoint, n_pages: int) -> Settings:
    """Settings for a pool of so many pages."""
    n_bytes = pool_bytes(model, page_size=PAGE_SIZE, n_slots=4, n_pages=n_pages)
    return make_settings(
        pool_bytes=n_bytes, page_size=PAGE_SIZE, max_running=4, max_batch_tokens=40
    )


def fresh(model: Checkpoint, prompt: list[int]) -> tuple[list[int], list[TokenLogprob]]:
    """What comes after a prompt, computed from its first token on and by itself."""
    n_pages = -(-(len(prompt) + MAX_TOKENS) // PAGE_SIZE)
    state = model.decoder.new_state(n_pages=n_pages, page_size=PAGE_SIZE, n_slots=1)
    new, held = list(prompt), 0
    ids: list[int] = []
    logprobs = []
    while len(ids) < MAX_TOKENS:
        batch = RaggedBatch(
            token_ids=np.array(new, np.int64),
            starts=np.array([0, len(new)]),
            context_lens=np.array([held]),
            slots=np.array([0]),
            block_tables=np.arange(n_pages, dtype=np.int32)[None],
        )
        (logits,) = model.decoder.extend(batch, state).logits.numpy()
        held += len(new)
        new = [int(logits.argmax())]
        ids += new
        logprobs.append(token_logprob(logits, new[0], 1))
    return ids, logprobs


class History:
    """Requests, sessions, forks and snapshots in any order, each answer held to a fresh one."""

    def __init__(self, model: Checkpoint, n_pages: int, rng: np.random.Generator) -> None:
        self.model, self.rng, self.n_pages = model, rng, n_pages
        self.driver = Driver(model, sized(model, n_pages))
        self.sessions = [f"s{n}" for n in range(3)]
        self.n_requests = 0
        self.expected: dict[str, tuple[list[int], list[TokenLogprob]]] = {}

    def ask(self, session: str | None) -> None:
        id = f"r{self.n_requests}"
        self.n_requests += 1
        text = TEXTS[self.rng.integers(len(TEXTS))]
        log = list(self.driver.logs.get(session or "", []))
        prompt = [*log, *self.model.task.frame(self.model.tokenizer.encode(text), "copy")]
        self.expected[id] = fresh(self.model, prompt)
        self.driver.add(
            id, text, MAX_TOKENS, session=session, logprobs=1, ignore_eos=True,
            n=1 if session else int(self.rng.integers(1, 3)),
        )  # fmt: skip

    def finish(self) -> None:
        """Run what was asked to its end, and compare."""
        self.driver.run()
        for id, (ids, logprobs) in self.expected.items():
            for index in range(len(self.driver.deltas[id])):
                delta = self.driver.joined(id, index)
                assert (delta.token_ids, delta.logprobs) == (ids, logprobs), id
        self.expected.clear()

    def move(self) -> None:
        """Save a session and restore it, maybe to an engine that knows nothing else."""
        session = self.pick()
        log = self.driver.logs.get(session)
        held = None if log is None else self.driver.core.sessions.export(session, log)
        if log is None or held is None:
            return
        if self.rng.random() < 0.3:
            others, self.driver = (
                self.driver.logs,
                Driver(self.model, sized(self.model, self.n_pages)),
            )
            self.driver.logs |= others
        self.driver.core.sessions.restore(session, log[: held[0]], held[1])

    def pick(self) -> str:
        return self.sessions[self.rng.integers(len(self.sessions))]

    def act(self) -> None:
        draw = self.rng.random()
        if draw < 0.6:
            busy = self.rng.permutation(self.sessions)[: self.rng.integers(0, 3)]
            for session in [*map(str, busy), *[None] * int(self.rng.integers(1, 4))]:
                self.ask(session)
            self.finish()
        elif draw < 0.75 and self.pick() in self.driver.logs:
            origin, child = self.pick(), f"fork{len(self.sessions)}"
            if origin in self.driver.logs:
                self.driver.fork(origin, child)
                self.sessions.append(child)
        elif draw < 0.9:
            self.move()
        else:
            self.driver.drop(self.pick())


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.sampled_from([22, 60]))
def test_any_history_gives_the_bits_of_a_fresh_computation(
    model: Checkpoint, seed: int, n_pages: int
) -> None:
    history = History(model, n_pages, np.random.default_rng(seed))
    for _ in range(10):
        history.act()
    history.driver.assert_nothing_leaks()
    pool = history.driver.core.pool
    assert pool.states.n_used <= pool.allocator.n_kept


def test_small_states_are_kept_at_every_page_and_large_ones_at_few(model: Checkpoint) -> None:
    settings = sized(model, 60)
    driver, state = Driver(model, settings), allocate(model, settings)
    every = driver.core.pool.states.every
    assert every == min(16, -(-state.bytes_per_state // state.bytes_per_page))
    assert (every > 1) == (state.bytes_per_state > state.bytes_per_page)
    assert state.n_rows <= 60 // every + 4
    long = "abcdefghij" * 30
    driver.add("a", long, 1)
    driver.run()
    driver.add("b", long + "kl", 1)
    driver.run()
    # The prompt's last full page has a row, whatever `every` is.
    assert driver.progress["b"].n_cached >= 301 // PAGE_SIZE * PAGE_SIZE - PAGE_SIZE
