"""The settings of a server, from environment variables, and which of these may be set."""

import difflib
import os
from collections.abc import Collection

from pydantic import ValidationError

from causalrn.model.validation import describe
from causalrn.server.errors import StartupError
from causalrn.server.printable import LONGEST_ECHO, printable
from causalrn.server.settings import Settings

_PREFIX = "CAUSALRN_"
_OF_CLIENTS = ("BASE_URL", "API_KEY")  # settings of clients, which may run on the same machine


def settings_of_environment() -> Settings:
    """The settings that the environment gives.

    Raises:
        StartupError: a variable is unknown, or its value cannot be used; the message names it.
    """
    check_environment(os.environ)
    try:
        return Settings()
    except ValidationError as error:
        problem = error.errors()[0]
        key = tuple(_PREFIX + str(part).upper() for part in problem["loc"][:1])
        raise StartupError(describe(problem, key, Settings)) from None


def check_environment(names: Collection[str]) -> None:
    """Refuse variables that look like settings, but are not.

    A misspelt limit would silently be no limit, and a misspelt list of keys an open server.

    Args:
        names: of all environment variables; as for settings, their case does not matter.

    Raises:
        StartupError: one of them is unknown, or is a client's key while the server has no keys.
    """
    given = {*map(str.upper, names)}
    if "CAUSALRN_API_KEY" in given and not given & {"CAUSALRN_API_KEYS", "CAUSALRN_API_KEYS_FILE"}:
        raise StartupError(
            "CAUSALRN_API_KEY is what a client sends; the keys of a server are in "
            "CAUSALRN_API_KEYS or CAUSALRN_API_KEYS_FILE. Set one of these, or unset it"
        )
    settings = [*map(str.upper, Settings.model_fields)]
    for name in sorted(names):
        prefix, setting = name.upper()[: len(_PREFIX)], name.upper()[len(_PREFIX) :]
        if prefix != _PREFIX or setting in (*settings, *_OF_CLIENTS):
            continue
        nearest = difflib.get_close_matches(setting, settings, n=1)
        hint = f"did you mean {_PREFIX}{nearest[0]}?" if nearest else "the README lists them all"
        raise StartupError(f"{printable(name, LONGEST_ECHO)} is not a setting; {hint}")
