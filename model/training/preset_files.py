"""The TOML files that presets are written in: found by name, merged with their base, overridden."""

import difflib
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent / "presets"


class PresetError(ValueError):
    """A preset that does not exist or cannot be used. The message names the file and the key."""


class PresetValues:
    """The values of a preset, each with the place where it was written.

    Attributes:
        name: of the file, without its ending.
        folder: where the file is, which paths in it are relative to.
        values: as parsed, with the values of its base where it has none of its own.
    """

    def __init__(self, name_or_path: str) -> None:
        """Read a preset and its base.

        Raises:
            PresetError: a file is not there or is not TOML, or is its own base.
        """
        self._file = _find(name_or_path, Path())
        self._sources: dict[tuple[str, ...], str] = {}
        self.name, self.folder = self._file.stem, self._file.parent
        self.values = self._read(self._file, ())

    def override(self, setting: str) -> None:
        """Replace one value.

        Args:
            setting: `KEY=VALUE`: a dotted key, in which a number is a place in a list, and a value
                as in TOML.

        Raises:
            PresetError: the setting has another form, or there is no such place.
        """
        where = f"--set {setting}"
        key, equals, text = setting.partition("=")
        path = tuple(part.strip() for part in key.split("."))
        if not equals or not all(path):
            raise PresetError(f"{where}: must be KEY=VALUE, such as optimizer.steps=100")
        value = _parse(text)
        if value is None:
            raise PresetError(
                f"{where}: {text.strip()!r} is not a TOML value; text needs quotes: "
                f"--set '{key.strip()}=\"{text.strip()}\"'"
            )
        if path == ("base",):
            raise PresetError(f"{where}: the base of a preset stands in its file")
        inner: Any = self.values
        for depth, part in enumerate(path[:-1]):
            inner = _step_into(inner, part, where, path[: depth + 1])
        if isinstance(inner, list):
            inner[_place(inner, path[-1], where, path)] = value
        elif isinstance(inner, dict):
            inner[path[-1]] = value
        else:
            raise PresetError(f"{where}: {'.'.join(path[:-1])} is neither a table nor a list")
        self._sources[path] = where

    def replace(self, key: str, value: Any, source: str) -> None:
        """Replace the value of a table's first level.

        Args:
            key: of the file.
            value: as parsed.
            source: what is to blame for it, for errors.
        """
        self.values[key] = value
        self._sources[(key,)] = source

    def source(self, key: Iterable[str | int]) -> str:
        """The file or option that a value comes from, for errors."""
        path = tuple(map(str, key))
        for end in range(len(path), 0, -1):
            if path[:end] in self._sources:
                return self._sources[path[:end]]
        return str(self._file)

    def _read(self, file: Path, heirs: tuple[Path, ...]) -> dict[str, Any]:
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise PresetError(f"{file}: {error.strerror}") from None
        except (RecursionError, ValueError) as error:
            raise PresetError(f"{file}: not TOML: {error}") from None
        base = values.pop("base", None)
        whole: dict[str, Any] = {}
        if base is not None:
            if not isinstance(base, str):
                raise PresetError(f"{file}: base must be the name of a preset, got {base!r}")
            try:
                found = _find(base, file.parent)
            except PresetError as error:
                raise PresetError(f"{file}: base: {error}") from None
            if found.resolve() in {heir.resolve() for heir in (*heirs, file)}:
                raise PresetError(f"{file}: base: {base!r} is based on this preset itself")
            whole = self._read(found, (*heirs, file))
        self._merge(whole, values, (), str(file))
        return whole

    def _merge(
        self, into: dict[str, Any], values: dict[str, Any], path: tuple[str, ...], source: str
    ) -> None:
        """Tables are merged key by key; everything else is replaced as a whole.

        A table that names another task replaces the former task's as well, since its parameters
        mean something else.
        """
        for key, value in values.items():
            own = (*path, key)
            former = into.get(key, {})
            if isinstance(value, dict) and isinstance(former, dict):
                if own == ("task",) and value.get("name", former.get("name")) != former.get("name"):
                    into[key] = {}
                self._merge(into.setdefault(key, {}), value, own, source)
            else:
                into[key] = value
                self._sources[own] = source


def preset_names() -> list[str]:
    """Names of the presets that come with the project."""
    return sorted(file.stem for file in _FOLDER.glob("*.toml"))


def _find(name_or_path: str, folder: Path) -> Path:
    """The file of a preset. A path is relative to `folder`."""
    names = preset_names()
    if name_or_path.endswith(".toml"):
        return folder / name_or_path
    if name_or_path in names:
        return _FOLDER / f"{name_or_path}.toml"
    close = difflib.get_close_matches(name_or_path, names, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise PresetError(
        f"no preset {name_or_path!r}{hint}; there are {', '.join(names)}, "
        "or give a file that ends in .toml"
    )


def _parse(text: str) -> Any:
    """The value that a text is in TOML, or None, which TOML does not have, if it is not one."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return None
    return parsed["value"] if len(parsed) == 1 else None


def _step_into(inner: Any, part: str, where: str, path: tuple[str, ...]) -> Any:
    if isinstance(inner, list):
        return inner[_place(inner, part, where, path)]
    if isinstance(inner, dict):
        return inner.setdefault(part, {})
    raise PresetError(f"{where}: {'.'.join(path[:-1])} is neither a table nor a list")


def _place(inner: list[Any], part: str, where: str, path: tuple[str, ...]) -> int:
    if not part.isdecimal() or int(part) >= len(inner):
        raise PresetError(
            f"{where}: {'.'.join(path[:-1])} is a list of {len(inner)}; "
            f"its places are 0 to {len(inner) - 1}, not {part!r}"
        )
    return int(part)
