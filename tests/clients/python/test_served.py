"""Both clients against the server of this project, with a fake model that copies."""

from collections.abc import Iterator
from typing import Any

import pytest

from causalrn_client import (
    BatchError,
    DeadlineExceededError,
    Generation,
    ModelNotFoundError,
    StreamError,
    UnprocessableEntityError,
)
from tests.clients.python.blocking import AnyClient
from tests.clients.python.conftest import Connect
from tests.server.conftest import Gate, make_settings
from tests.server.fake_model import FakeModel
from tests.server.live_server import LiveServer, serve

DRAW: dict[str, Any] = {"max_tokens": 12, "temperature": 2.0, "seed": 1, "ignore_eos": True}


@pytest.fixture(scope="module")
def live() -> Iterator[LiveServer]:
    with serve(FakeModel(), make_settings()) as live:
        yield live


@pytest.fixture
def client(connect: Connect, live: LiveServer) -> AnyClient:
    return connect(live.url)


def both_ways(client: AnyClient, prompt: str, **fields: Any) -> Generation:
    """The generation, checked to be the same whether streamed or not."""
    whole = client.generate(prompt, **fields)
    streamed = client.stream(prompt, **fields).result()
    same_each_time = {"id": "", "usage": whole.usage}  # the second one finds its prompt read
    assert streamed.model_copy(update=same_each_time) == whole.model_copy(update=same_each_time)
    assert streamed.usage.total_tokens == whole.usage.total_tokens
    return whole


def test_one_sample(client: AnyClient) -> None:
    generation = both_ways(client, "Zürich → 東京 🚄")
    assert (generation.text, generation.finish_reason) == ("Zürich → 東京 🚄", "stop")
    assert (generation.logprobs, generation.samples) == (None, None)


def test_a_copy_is_verified(client: AnyClient) -> None:
    generation = both_ways(client, "copied", n=2)
    assert (generation.match, generation.verified) == (None, True)
    assert [sample.verified for sample in generation.samples or []] == [True, True]
    assert both_ways(client, "copied", max_tokens=3).verified is None
    assert both_ways(client, "copied", logit_bias={ord("x"): 100}, max_tokens=3).verified is False


@pytest.fixture(scope="module")
def careful() -> Iterator[LiveServer]:
    """A server of a model that recalls only what it found, and the first passage that fits."""
    with serve(FakeModel(recall=True, min_match=1.0), make_settings()) as live:
        yield live


def test_a_recall_says_how_good_it_is(connect: Connect, careful: LiveServer) -> None:
    with connect(careful.url).session() as session:
        session.read("hello there")
        before = session.info().n_tokens
        missed, streamed = session.recall("help"), session.stream("help", mode="recall").result()
        for miss in (missed, streamed):
            assert (miss.text, miss.token_ids, miss.finish_reason) == ("", [], "not_found")
            assert (miss.match, miss.verified) == (0.75, None)
            assert miss.session is not None
            assert miss.session.n_tokens == session.info().n_tokens == before
        nearest = session.recall("help", allow_partial=True)
        assert (nearest.finish_reason, nearest.match, nearest.verified) == ("stop", 0.75, False)
        *others, last = session.stream("hello", mode="recall")
        assert (last.finish_reason, last.match, last.verified) == ("stop", 1.0, True)
        assert all((one.match, one.verified) == (None, None) for one in others)
        session.read("hello again")
        assert session.recall("hello").verified is False


def test_several_samples_do_not_mix(client: AnyClient) -> None:
    generation = both_ways(client, "hello", n=4, logprobs=2, **DRAW)
    samples = generation.samples
    assert samples is not None
    assert [sample.index for sample in samples] == [0, 1, 2, 3]
    assert len({tuple(sample.token_ids) for sample in samples}) == 4
    for sample in samples:
        assert sample.logprobs is not None
        assert [token.token_id for token in sample.logprobs] == sample.token_ids
    assert generation.token_ids == samples[0].token_ids
    assert generation.logprobs == samples[0].logprobs
    assert generation.usage.completion_tokens == 48


@pytest.mark.parametrize("n_top", [0, 1, 20])
def test_log_probabilities(client: AnyClient, n_top: int) -> None:
    generation = both_ways(client, "hé", logprobs=n_top)
    assert generation.logprobs is not None
    assert [token.token_id for token in generation.logprobs] == list("hé".encode())
    for token in generation.logprobs:
        assert token.logprob is not None
        assert token.logprob <= 0
        assert len(token.top) == n_top
        assert token.logprob == max([one.logprob for one in token.top], default=token.logprob)


def test_a_prompt_is_scored_without_writing(client: AnyClient) -> None:
    generation = both_ways(client, "abc", max_tokens=0, echo=True, logprobs=0)
    assert (generation.text, generation.usage.completion_tokens) == ("abc", 0)
    assert [token.token_id for token in generation.logprobs or []] == list(b"abc")


def test_what_was_read_before_is_told(client: AnyClient) -> None:
    text = "a text that is longer than a page of sixteen tokens"
    client.generate(text)
    assert client.stream(text).result().usage.cached_tokens == 48


def test_every_argument_is_taken(client: AnyClient) -> None:
    generation = client.generate(
        token_ids=[104, 105],
        max_tokens=4,
        n=2,
        temperature=0.5,
        top_k=1,
        top_p=0.9,
        min_p=0.5,
        seed=0,
        stop=["never"],
        ignore_eos=False,
        logprobs=1,
        echo=True,
        priority=-10,
        deadline=60,
        request_id="mine",
    )
    assert generation.text == "hihi"
    repelled = client.generate(
        "hi",
        model="fake-copy",
        min_tokens=1,
        logit_bias={104: -100},
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        repetition_penalty=1.5,
        max_tokens=1,
    )
    assert repelled.token_ids != [104]


def test_text_and_ids(client: AnyClient) -> None:
    text = "Zürich 🚄"
    framed = client.tokenize(text, return_token_strs=True)
    plain = client.tokenize(text, add_special_tokens=False)
    assert plain.tokens == list(text.encode())
    assert framed.tokens == [256, *plain.tokens, 257]
    assert (framed.count, plain.count) == (len(framed.tokens), len(plain.tokens))
    assert framed.token_strs is not None
    assert framed.token_strs[:2] == ["<bos>", "Z"]
    assert client.detokenize(plain.tokens) == text
    about = client.tokenizer_info()
    assert (about.bos_token_id, about.sep_token_id) == (framed.tokens[0], framed.tokens[-1])
    with pytest.raises(UnprocessableEntityError) as caught:
        client.detokenize([258])
    assert caught.value.param == "tokens[0]"


def test_the_models(client: AnyClient) -> None:
    (model,) = client.models()
    assert client.info(model=model.id).model == model.id == "fake-copy"
    assert model.max_model_len == client.tokenizer_info(model=model.id).model_max_length
    with pytest.raises(ModelNotFoundError, match="fake-copy"):
        client.tokenizer_info(model="other")


def test_health(client: AnyClient) -> None:
    health = client.health()
    assert (health.status, health.running, health.waiting) == ("ready", 0, 0)
    assert health.pages_total > 0


def test_a_score_is_that_of_what_is_written(client: AnyClient) -> None:
    written = client.generate("hé", logprobs=1)
    score = client.score("hé", "hé")
    assert [(token.token_id, token.logprob) for token in score.tokens] == [
        (token.token_id, token.logprob) for token in written.logprobs or []
    ]
    assert score.is_likeliest
    assert score.model == written.model
    wrong = client.score("hé", "ho")
    assert [token.is_likeliest for token in wrong.tokens] == [True, False]
    assert wrong.logprob < score.logprob
    assert wrong.perplexity > score.perplexity > 1


def test_a_score_of_ids(client: AnyClient) -> None:
    ids = [*client.tokenize("ab").tokens, 97, 98, 258]
    whole = client.score(ids[:1], ids[1:])
    last = client.score(ids[:-3], ids[-3:])
    assert whole.tokens[-3:] == last.tokens
    assert [token.token_id for token in last.tokens] == [97, 98, 258]
    assert last.is_likeliest


def test_many_at_once(client: AnyClient) -> None:
    texts = [f"text {n}" for n in range(30)]
    assert [one.text for one in client.generate_many(texts, max_concurrency=8)] == texts
    scores = client.score_many([(text, text) for text in texts])
    assert all(score.is_likeliest for score in scores)
    with pytest.raises(BatchError) as caught:
        client.generate_many(["a", "", "c"], max_concurrency=2)
    assert list(caught.value.errors) == [1]
    assert [getattr(one, "text", None) for one in caught.value.results] == ["a", None, "c"]


@pytest.fixture
def held() -> Iterator[LiveServer]:
    """A server whose model makes no step before the test is over."""
    gate = Gate()
    with serve(FakeModel(), make_settings()) as live:
        live.model.decoder.before_extend = gate
        yield live
        gate.open()


def test_a_deadline(connect: Connect, held: LiveServer) -> None:
    client = connect(held.url)
    with pytest.raises(DeadlineExceededError, match=r"longer than 0\.1 s"):
        client.generate("hello", deadline=0.1)
    with pytest.raises(StreamError) as caught:
        client.stream("hello", deadline=0.1).result()
    assert caught.value.type == "deadline_exceeded"
    assert held.engine.metrics.finished["error"] == 2  # nothing was asked for again
