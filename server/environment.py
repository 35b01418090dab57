"""Which environment variables may be set."""

import difflib
from collections.abc import Iterable

from server.errors import LONGEST_ECHO, StartupError, printable
from server.settings import Settings

_PREFIX = "CAUSALRN_"
_OF_OTHERS = ("URL",)  # where commands look for a server


def check_environment(names: Iterable[str]) -> None:
    """Refuse variables that look like settings and are none.

    A misspelt limit would silently be no limit, and a misspelt list of keys an open server.

    Args:
        names: of all variables, in upper or lower case as settings are.

    Raises:
        StartupError: one of them is unknown.
    """
    known = [*map(str.upper, Settings.model_fields), *_OF_OTHERS]
    for name in sorted(names):
        prefix, setting = name.upper()[: len(_PREFIX)], name.upper()[len(_PREFIX) :]
        if prefix != _PREFIX or setting in known:
            continue
        nearest = difflib.get_close_matches(setting, known, n=1)
        hint = f"did you mean {_PREFIX}{nearest[0]}?" if nearest else "the README lists all"
        raise StartupError(f"{printable(name, LONGEST_ECHO)} is no setting; {hint}")
