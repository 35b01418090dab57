"""Things are found by name, and imported no earlier than that."""

import subprocess
import sys

import pytest

from causalrn.model.mixers.base import Mixer
from causalrn.model.mixers.registry import MIXERS
from causalrn.model.registry import Registry, UnknownNameError


def colours() -> Registry[str]:
    made: Registry[str] = Registry("colour", {"digits": "string:digits", "broken": "no.such:thing"})
    made.register("red", "#f00")
    return made


def test_what_was_registered_is_found_until_it_is_removed() -> None:
    registry = colours()
    assert registry.find("red") == "#f00"
    assert registry.names == ["broken", "digits", "red"]
    registry.unregister("red")
    assert registry.names == ["broken", "digits"]
    with pytest.raises(UnknownNameError):
        registry.find("red")


def test_what_is_built_in_is_imported_when_it_is_asked_for() -> None:
    registry = colours()
    assert registry.find("digits") == "0123456789"
    with pytest.raises(ModuleNotFoundError):
        registry.find("broken")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError) as error:
        colours().find("yellow")
    assert str(error.value) == "there is no colour 'yellow'; known colours: broken, digits, red"


@pytest.mark.parametrize(("name", "meant"), [("digit", "digits"), ("redd", "red")])
def test_a_misspelt_name_gets_a_hint(name: str, meant: str) -> None:
    with pytest.raises(UnknownNameError, match=f"; did you mean '{meant}'\\?$"):
        colours().find(name)


@pytest.mark.parametrize("name", ["red", "digits"])
def test_a_name_stands_for_one_thing(name: str) -> None:
    registry = colours()
    with pytest.raises(ValueError, match=f"there is a colour called '{name}' already"):
        registry.register(name, "#fff")
    assert registry.find("red") == "#f00"


def test_what_is_built_in_cannot_be_removed() -> None:
    registry = colours()
    with pytest.raises(KeyError):
        registry.unregister("digits")
    assert registry.find("digits") == "0123456789"


def test_every_mixer_of_the_project_is_where_the_registry_says() -> None:
    found = [MIXERS.find(name) for name in MIXERS.names]
    assert len(found) > 1
    assert all(issubclass(kind, Mixer) for kind in found)


def imported_after(code: str) -> set[str]:
    """Modules that a fresh interpreter has loaded once it has run some code."""
    code += "\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_shape_of_a_decoder_is_read_without_torch() -> None:
    loaded = imported_after("import causalrn.model.config")
    assert "causalrn.model.mixers.registry" in loaded
    assert loaded.isdisjoint({"torch", "numba", "numpy", "causalrn.model.mixers.normalized"})


def test_a_mixer_is_imported_when_a_block_names_it() -> None:
    loaded = imported_after(
        "from causalrn.model.mixers.registry import MIXERS\nMIXERS.find('separable')",
    )
    assert {"torch", "causalrn.model.mixers.separable"} <= loaded
    assert "causalrn.model.mixers.normalized" not in loaded
