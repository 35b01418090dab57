"""Short facts of one pattern each, which differ in a name and in what is said about it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from numpy.random import Generator

_ONSETS = [*"bdfghklmnprstvwz", "br", "dr", "kr", "st", "tr"]
_VOWELS = ["a", "e", "i", "o", "u", "ai", "au", "ei"]
_CODAS = ["", "", "", "l", "n", "r", "s"]


@dataclass(frozen=True)
class Fact:
    """A sentence.

    Attributes:
        prompt: how it begins, with the name.
        value: how it ends, which no other part of it tells.
    """

    prompt: str
    value: str


def _phone(rng: Generator, name: str) -> Fact:
    return Fact(f"{name}'s phone number is ", f"555-{rng.integers(10_000):04}.")


def _ferry(rng: Generator, name: str) -> Fact:
    clock = f"{rng.integers(24)}:{rng.integers(60):02}"
    return Fact(f"The ferry to {name} leaves at ", f"{clock} from pier {rng.integers(1, 30)}.")


def _price(rng: Generator, name: str) -> Fact:
    return Fact(f"A kilo of {name.lower()} costs ", f"{rng.integers(10_000) / 100:.2f} euros.")


def _key(rng: Generator, name: str) -> Fact:
    return Fact(f"config.{name.lower()} = ", f"{rng.integers(1_000_000):06};")


PATTERNS: dict[str, Callable[[Generator, str], Fact]] = {
    "phone numbers": _phone,
    "ferries": _ferry,
    "prices": _price,
    "keys and values": _key,
}
"""Facts about a name. The name is followed by what no name contains, so that none is the beginning
of another one."""


def draw_names(rng: Generator, n: int) -> list[str]:
    """Draw n different names of two to four syllables."""
    names: dict[str, None] = {}
    while len(names) < n:
        syllables = (
            str(rng.choice(_ONSETS)) + str(rng.choice(_VOWELS)) + str(rng.choice(_CODAS))
            for _ in range(rng.integers(2, 5))
        )
        names["".join(syllables).capitalize()] = None
    return list(names)


def draw_facts(rng: Generator, pattern: str, n: int, times: int = 1) -> list[list[Fact]]:
    """Draw n facts of one of the `PATTERNS`, each about a name of its own, and tell them anew.

    Returns:
        As often as they are told, all facts: in another order each time, and with other values.
    """
    names = draw_names(rng, n)
    told = [[PATTERNS[pattern](rng, name) for name in names]]
    while len(told) < times:
        told.append([PATTERNS[pattern](rng, names[i]) for i in rng.permutation(n)])
    return told


def passages_of(facts: Sequence[Fact], together: int) -> list[str]:
    """The turns that facts are read in: so many in one, with spaces between."""
    sentences = [fact.prompt + fact.value for fact in facts]
    return [
        " ".join(sentences[first : first + together])
        for first in range(0, len(sentences), together)
    ]
