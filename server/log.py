"""The log: all lines of it in one format, on standard error."""

import logging

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter
from uvicorn.logging import AccessFormatter, DefaultFormatter

from causalrn.server.settings import LogFormat, Settings

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_INVALID = "Invalid HTTP request received."  # uvicorn's; `GuardedProtocol` says more about it


class _OneLine(logging.Formatter):
    """Spells out what would begin a line, or hide one: clients choose some of the words."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """A message, before a traceback is added."""
        text = super().formatMessage(record).rstrip()
        if text.isprintable():
            return text
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def format_uvicorn(log_format: LogFormat) -> None:
    """Have uvicorn write its lines as the server does, and none about answers: the server does.

    What somebody has set up in place of uvicorn's defaults stays.
    """
    for handler in logging.getLogger("uvicorn").handlers:
        if isinstance(handler.formatter, DefaultFormatter):
            handler.setFormatter(_formatter(log_format))
    access = logging.getLogger("uvicorn.access")
    for handler in access.handlers.copy():
        if isinstance(handler.formatter, AccessFormatter):
            access.removeHandler(handler)
    logging.getLogger("uvicorn.error").addFilter(_is_not_about_an_answer)


def show_log(settings: Settings) -> None:
    """Write the log to standard error, unless logging is set up already."""
    format_uvicorn(settings.log_format)
    log = logging.getLogger("causalrn.server")
    log.setLevel(settings.log_level)
    if not log.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(_formatter(settings.log_format))
        logging.getLogger().addHandler(handler)  # also for warnings of asyncio and others


def _is_not_about_an_answer(record: logging.LogRecord) -> bool:
    return record.msg != _INVALID


def _formatter(log_format: LogFormat) -> logging.Formatter:
    if log_format == "text":
        return _OneLine(_TEXT)
    return JsonFormatter(
        "%(levelname)s %(name)s %(message)s",
        timestamp="time",
        rename_fields={"levelname": "level", "name": "logger"},
        reserved_attrs=[*RESERVED_ATTRS, "color_message"],  # uvicorn's, for terminals
    )
