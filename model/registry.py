"""Names for things that can be added from outside: mixers, tasks and backends."""

import difflib
import importlib
from collections.abc import Mapping
from typing import Generic, TypeVar, cast

T = TypeVar("T")


class UnknownNameError(ValueError):
    """A name that nothing is known by. The message lists the names that are known."""


class Registry(Generic[T]):
    """Finds things of one kind by name: those of the project, and those that others add.

    A thing of the project is imported when it is first asked for, so that until then its name
    costs nothing.

    Args:
        kind: what such a thing is called in error messages.
        built_in: for each name of the project, where to import it from, `package.module:attribute`.
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
        """Remove a thing that was added.

        Raises:
            KeyError: nothing was added under this name.
        """
        del self._added[name]

    def find(self, name: str) -> T:
        """The thing that a name stands for.

        Raises:
            UnknownNameError: there is no such name; the closest known one is suggested.
        """
        if name in self._added:
            return self._added[name]
        if name not in self._built_in:
            nearest = difflib.get_close_matches(name, self.names, n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            known = f"known {self._kind}s: {', '.join(self.names)}"
            raise UnknownNameError(f"there is no {self._kind} {name!r}; {known}{hint}")
        module, _, attribute = self._built_in[name].partition(":")
        return cast(T, getattr(importlib.import_module(module), attribute))
