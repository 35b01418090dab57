"""Names for things that can be added from outside: mixers, tasks and backends."""

import difflib
import importlib
from collections.abc import Mapping
from typing import Generic, TypeVar, cast

T = TypeVar("T")


class UnknownNameError(ValueError):
    """A name that stands for nothing. The message lists those that do."""


class Registry(Generic[T]):
    """Finds things by name.

    What comes with the project is imported when it is first asked for, so that a name costs nothing
    until then.

    Args:
        kind: what the things are called in errors.
        built_in: for each name, where its thing is: `package.module:attribute`.
    """

    def __init__(self, kind: str, built_in: Mapping[str, str]) -> None:
        self._kind = kind
        self._built_in = dict(built_in)
        self._added: dict[str, T] = {}

    @property
    def names(self) -> list[str]:
        """All names, in alphabetical order."""
        return sorted({*self._built_in, *self._added})

    def register(self, name: str, thing: T) -> None:
        """Add a thing under a new name.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._built_in or name in self._added:
            raise ValueError(f"there is a {self._kind} called {name!r} already")
        self._added[name] = thing

    def unregister(self, name: str) -> None:
        """Remove a thing that was added."""
        del self._added[name]

    def find(self, name: str) -> T:
        """The thing of a name.

        Raises:
            UnknownNameError: there is none.
        """
        if name in self._added:
            return self._added[name]
        if name not in self._built_in:
            nearest = difflib.get_close_matches(name, self.names, n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise UnknownNameError(
                f"there is no {self._kind} {name!r}, known are {', '.join(self.names)}{hint}"
            )
        module, _, attribute = self._built_in[name].partition(":")
        return cast(T, getattr(importlib.import_module(module), attribute))
