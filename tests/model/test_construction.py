"""What a constructed decoder relies on, and what it can do before anything is trained."""

from importlib.resources import files
from typing import Any

import numpy as np
import pytest
import torch

from causalrn.model.config import ModelConfig
from causalrn.model.construction import (
    WORD,
    Construction,
    ConstructionError,
    balanced_codes,
    construct,
    digits,
    recall_taps,
    token_codes,
    words,
)
from causalrn.model.decoder import Decoder
from causalrn.model.mixers.normalized import NormalizedRelation
from causalrn.model.ops.norm import norm
from causalrn.model.ops.positions import OUTPUT, RECALL
from causalrn.model.ops.relation.reference import full_match
from causalrn.model.state import RaggedBatch
from causalrn.model.tokenizers.alphabet import LetterTokenizer
from causalrn.model.training.preset import load_preset

LETTERS = LetterTokenizer()
BOS, SEP, EOS = LETTERS.bos_id, LETTERS.sep_id, LETTERS.eos_id
N_DIGITS, D_CODE, D_PLACE = 18, 32, 64
FIRST = N_DIGITS + 3  # channel of the codes of tokens
D_MODEL = FIRST + D_CODE + D_PLACE


def keyed(first: int, end: int, width: int, phase: str, **params: Any) -> dict[str, Any]:
    common: dict[str, Any] = {
        "d_relation": end - first + N_DIGITS,
        "d_value": N_DIGITS,
        "temperature": 1e8,
        "silent_values": True,
        "tied_keys": True,
        "tells_match": True,
        "shift_width": width,
        "shift_channels": [first, end],
        "within_turn": True,
    }
    return {"mixer": "normalized", "phases": [phase], "params": common | params}


def shape(**changes: Any) -> ModelConfig:
    values = {
        "vocab_size": LETTERS.vocab_size,
        "bos_id": BOS,
        "sep_id": SEP,
        "eos_id": EOS,
        "d_model": D_MODEL,
        "positions": "coupled",
        "d_position": D_PLACE,
        "balanced_places": True,
        "max_seq_len": 4096,
        "recall": True,
        "blocks": [
            keyed(FIRST, FIRST + D_CODE, 41, "recall", recency=50.0),
            keyed(FIRST + D_CODE, D_MODEL, 2, "output"),
        ],
    }
    return ModelConfig.from_dict(values | changes)


def constructed(seed: int = 0) -> Decoder:
    torch.manual_seed(seed)
    decoder = Decoder(shape())
    construct(decoder, Construction(base=16, loudness=4.0, decay=0.8))
    return decoder.requires_grad_(False)


def mixers(decoder: Decoder) -> list[NormalizedRelation]:
    found = []
    for mixer in decoder.mixers:
        assert isinstance(mixer, NormalizedRelation)
        found.append(mixer)
    return found


def inputs(decoder: Decoder, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x, phases, reaches = decoder.embedding(torch.tensor([ids]))
    return norm(x, decoder.config.norm_eps), phases[0], reaches


def keys(decoder: Decoder, block: int, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """What readers and memories of one block have for keys, `[T, d_key]`, as kernels compute it."""
    mixer = mixers(decoder)[block]
    x, _, reaches = inputs(decoder, ids)
    assert mixer.shift is not None
    xa, xb = mixer.shift(x, reaches)
    weight = mixer.reader.weight
    return xa[0] @ weight.T, -(xb[0] @ weight.T)


@pytest.mark.parametrize(("n_ids", "base", "width"), [(259, 259, 259), (259, 16, 34), (29, 16, 18)])
def test_digits_tell_all_ids_apart_with_as_many_of_them(n_ids: int, base: int, width: int) -> None:
    written = digits(n_ids, base)
    assert written.shape == (n_ids, width)
    assert len(torch.unique(written, dim=0)) == n_ids
    assert len(written.sum(1).unique()) == 1


def test_words_differ_in_six_signs_at_least() -> None:
    distances = (words()[:, None] != words()).sum(-1)
    assert distances.shape == (256, 256)
    assert distances.fill_diagonal_(WORD).min() == 6


def test_taps_take_words_in_turn_and_those_of_the_same_channels_are_orthogonal() -> None:
    torch.manual_seed(0)
    taps = recall_taps(64, 128, 0.5)
    assert not torch.equal(taps, recall_taps(64, 128, 0.5))
    energies = taps @ taps.T
    torch.testing.assert_close(energies, torch.diag(WORD * 0.25 ** torch.arange(64.0)))
    assert ((taps != 0).sum(1) == WORD).all()
    assert ((taps != 0).sum(0) == 64 // 8).all()


def test_codes_have_as_many_of_each_sign() -> None:
    for codes in (balanced_codes(50, 32), token_codes(256, 32)):
        assert codes.abs().eq(1).all()
        assert codes.sum(1).eq(0).all()
        assert len(torch.unique(codes, dim=0)) == len(codes)


def test_all_vectors_have_the_same_sum_and_norm() -> None:
    """Sums of small integers, which are exact: the same bits, in every phase and at any place."""
    decoder = constructed()
    ids = [BOS, 5, 7, SEP, 5, 7, EOS, BOS, SEP, 28, 3]
    x, phases, _ = decoder.embedding(torch.tensor([ids, ids]), torch.tensor([0, 2**40]))
    assert set(phases.flatten().tolist()) == {0, OUTPUT, RECALL}
    assert len(x.double().sum(-1).unique()) == 1
    assert len(x.double().square().sum(-1).unique()) == 1


def test_keys_of_a_place_cancel_to_the_last_bit_and_no_others_come_near() -> None:
    decoder = constructed()
    string = torch.randint(3, 29, (40,), generator=torch.Generator().manual_seed(1)).tolist()
    readers, memories = keys(decoder, 1, [BOS, *string, SEP, *string])
    for place in range(41):
        left = (readers[41 + place] + memories).square().sum(1)
        assert left[1 + place] == 0
        others = torch.cat([left[1 : 1 + place], left[2 + place : 42]])
        assert (others > D_PLACE / 2).all()


def test_keys_of_equal_turns_cancel_to_the_last_bit() -> None:
    """A recall from a passage's beginning: all that was said since then is the same."""
    decoder = constructed()
    string = [3, 9, 9, 4, 27, 3, 3, 9]
    readers, memories = keys(decoder, 0, [BOS, *string, SEP, BOS, SEP, *string])
    for n in range(len(string) + 1):
        assert (readers[11 + n] + memories[1 + n]).square().sum() == 0


@pytest.mark.parametrize("seed", range(20))
def test_what_keys_leave_tells_whether_all_of_a_prefix_stands_there(seed: int) -> None:
    """With the widths of the models that are shipped, for prefixes from the middle of passages.

    A full match leaves nearly the energy of what the reader has not seen. If a token of the prefix
    is another one, be it the first, which counts least, it leaves more than `tolerance` times that.
    """
    preset = load_preset("exact-bytes-small")
    config = preset.blueprint.config
    assert preset.construction is not None
    torch.manual_seed(seed)
    decoder = Decoder(config).requires_grad_(False)
    construct(decoder, preset.construction)
    tolerance = mixers(decoder)[0].params.tolerance
    folder = files("causalrn.model.evaluation") / "texts"
    texts = [list((folder / f"{name}.txt").read_bytes()) for name in ("prose", "code", "scripts")]
    rng = np.random.default_rng(seed)
    full: list[float] = []
    near: list[float] = []
    for _ in range(30):
        text = texts[rng.integers(len(texts))]
        begin, before, n = rng.integers(len(text) - 120), rng.integers(1, 90), rng.integers(1, 32)
        passage = text[begin : begin + before + n]
        prefix = passage[before:]
        another = [(prefix[0] + int(rng.integers(1, 256))) % 256, *prefix[1:]]
        session = [config.bos_id, *passage, config.sep_id, config.bos_id, config.sep_id]
        for asked, found in ((prefix, full), (another, near)):
            ids = [*session, *asked]
            readers, memories = keys(decoder, 0, ids)
            _, _, reaches = inputs(decoder, ids)
            expected = full_match(reaches, mixers(decoder)[0].tap_energy)[0, -1, len(passage) + 1]
            left = (readers[-1] + memories[len(passage) + 1]).square().sum()
            found.append(float(left / expected))
    assert np.mean(full) == pytest.approx(1, abs=0.03)
    assert max(full) < 0.9 * tolerance
    assert min(near) > 1.1 * tolerance


def test_values_are_one_spike_a_digit() -> None:
    decoder = constructed()
    for mixer in mixers(decoder):
        x, _, _ = inputs(decoder, [BOS, 4, 17, 28])
        values = mixer.memory(x)[0]
        expected = Construction().spike * digits(LETTERS.vocab_size, 16)[[BOS, 4, 17, 28]]
        torch.testing.assert_close(values, expected, rtol=1e-6, atol=1e-7)


def test_it_finds_what_it_looks_for_before_anything_is_trained() -> None:
    """With an output that is loud enough to be read in spite of a token's own digits."""
    decoder = constructed()
    for mixer in mixers(decoder):
        mixer.output.weight.zero_()
        mixer.output.weight[:N_DIGITS] = 50 * torch.eye(N_DIGITS)
    values = digits(LETTERS.vocab_size, 16)
    decoder.classifier.weight.zero_()
    decoder.classifier.weight[:, :N_DIGITS] = values
    rng = np.random.default_rng(0)
    strings = [rng.integers(3, 29, n).tolist() for n in (1, 30, 300, 700)]
    ids: list[int] = []
    wanted: dict[int, int] = {}  # by the place of the token before
    for string in strings:
        ids += [BOS, *string, SEP]
        wanted |= {len(ids) - 1 + n: token for n, token in enumerate([*string, SEP])}
        ids += [*string, EOS]
    for string in strings[1:]:
        for begin in (0, 10):
            ids += [BOS, SEP, *string[begin : begin + 12]]
            rest = [*string[begin + 12 :], EOS]  # as the copy ended, which is younger
            wanted |= {len(ids) - 1 + n: token for n, token in enumerate(rest)}
            ids += rest[:-1]
    state = decoder.new_state(n_pages=384, page_size=16, n_slots=1)
    batch = RaggedBatch(
        token_ids=np.array(ids),
        starts=np.array([0, len(ids)]),
        context_lens=np.zeros(1, np.int64),
        slots=np.zeros(1, np.int64),
        block_tables=np.arange(384, dtype=np.int32)[None],
    )
    logits = decoder.extend(batch, state, np.array(list(wanted))).logits
    assert logits.argmax(-1).tolist() == list(wanted.values())


def match_of(ids: list[int]) -> float | None:
    decoder = constructed()
    state = decoder.new_state(n_pages=32, page_size=16, n_slots=1)
    for n, token in enumerate(ids):
        batch = RaggedBatch(
            token_ids=np.array([token]),
            starts=np.array([0, 1]),
            context_lens=np.array([n]),
            slots=np.zeros(1, np.int64),
            block_tables=np.arange(32, dtype=np.int32)[None],
        )
        decoder.extend(batch, state)
    return decoder.match(state, 0)


PASSAGE = [3, 9, 9, 4, 27, 3, 3, 9, 5, 11, 20, 20, 8, 14, 6, 28, 10, 22, 17, 4, 19, 9, 25, 13]
SESSION = [BOS, *PASSAGE, SEP, BOS, 7, *PASSAGE[12:], 5, SEP]


@pytest.mark.parametrize("prefix", [PASSAGE[:1], PASSAGE[:7], PASSAGE, PASSAGE[12:18]])
def test_a_prefix_of_a_passage_is_a_full_match(prefix: list[int]) -> None:
    match = match_of([*SESSION, BOS, SEP, *prefix])
    assert match is not None
    assert match > 0.75


@pytest.mark.parametrize(
    "prefix",
    [
        [5, *PASSAGE[:7]],  # a token before the passage's first
        [*PASSAGE[:6], 21],  # another last token
        [*PASSAGE[2:5], 7, *PASSAGE[6:12]],  # one in the middle
        [*PASSAGE[:8], *PASSAGE[14:20]],  # two that do not follow each other
        [26, 24, 26, 24],  # none of it
    ],
)
def test_a_prefix_that_stands_nowhere_is_no_match(prefix: list[int]) -> None:
    match = match_of([*SESSION, BOS, SEP, *prefix])
    assert match is not None
    assert match < 0.65


def test_a_copy_matches_and_a_turn_that_only_reads_tells_nothing() -> None:
    assert match_of(SESSION) == 1  # the SEP looks for the first token of the copy
    assert match_of([*SESSION, *PASSAGE[:5]]) == 1
    assert match_of([*SESSION, BOS, *PASSAGE]) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"balanced_places": False}, "balanced_places true"),
        ({"blocks": [keyed(21, 53, 41, "recall", silent_values=False)]}, "silent_values"),
        ({"blocks": [keyed(21, 53, 41, "source")]}, "output alone, or recall alone"),
        ({"blocks": [keyed(18, 50, 41, "recall")]}, "end at 53"),
        ({"blocks": [keyed(53, 117, 3, "output")]}, "by 2 taps"),
        ({"blocks": [keyed(5, 53, 41, "recall")]}, "32 channels times 1, 4 or 9, got 48"),
        (
            {"blocks": [keyed(21, 53, 41, "recall"), keyed(5, 53, 41, "recall")]},
            "must shift the same channels",
        ),
        (
            {"d_model": 116, "blocks": [keyed(20, 52, 41, "recall")]},
            "d_model must be at least 117",
        ),
        (
            {
                "vocab_size": 260,
                "d_model": 133,
                "blocks": [keyed(37, 69, 41, "recall", d_value=34, d_relation=66)],
            },
            "at most 259 tokens to be recalled, got 260",
        ),
    ],
)
def test_other_shapes_are_refused(changes: dict[str, Any], message: str) -> None:
    decoder = Decoder(shape(**changes))
    with pytest.raises(ConstructionError, match=message):
        construct(decoder, Construction(base=16))
