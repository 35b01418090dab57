"""The texts of a user, from the command line to the task that is trained on them."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from model.blueprint import Blueprint
from model.data.corpus import Corpus, make_corpus
from model.data.documents import Format
from model.data.errors import DataError
from model.data.survey import Report, Survey, check_symbols, survey
from model.progress import Watch
from model.tasks.base import ReadsData, Task
from model.terminal import say
from model.training.preset_files import PresetError, PresetValues

_FILE = ".json"  # ends the names of tokenizers from files
_A_WHILE = 1.0  # seconds


@dataclass(frozen=True)
class Reading:
    """Files to train on, and how.

    Attributes:
        found: what is in them; None if there are none.
        form: how documents stand in them.
        held_out: share of the documents that are not trained on.
    """

    found: Survey | None
    form: Format
    held_out: float

    @classmethod
    def of(cls, paths: Sequence[Path], form: Format, held_out: float) -> Self:
        """Look at all files.

        Raises:
            DataError: something in them cannot be used.
        """
        if not paths:
            return cls(None, form, held_out)
        with _watched() as report:
            return cls(survey(paths, form, report), form, held_out)

    def check(self, task: Task) -> None:
        """Return if a task can do with these files, or without any.

        Raises:
            DataError: it needs texts, or reads none.
        """
        if self.found is None and isinstance(task, ReadsData) and task.needs_data:
            raise DataError(
                f"the task {task.name!r} needs texts to train on; give files or folders with --data"
            )
        if self.found is not None and not isinstance(task, ReadsData):
            raise DataError(f"--data: the task {task.name!r} reads no texts")

    def read(self, blueprint: Blueprint, folder: Path) -> Corpus | None:
        """Have the task of a model read the files.

        Args:
            blueprint: of the model.
            folder: for tokens.

        Returns:
            What it has read; None if there are no files.

        Raises:
            DataError: the task needs texts, or reads none, or not these.
        """
        task = blueprint.task
        self.check(task)
        if self.found is None or not isinstance(task, ReadsData):
            return None
        try:
            with _watched() as report:
                corpus = make_corpus(
                    folder, self.found, self.form, blueprint.tokenizer, self.held_out, report
                )
        except OSError as error:
            raise DataError(f"{folder}: {error.strerror}") from None
        task.read(corpus)
        n, parts = self.found.n_documents, (corpus.train, corpus.validation)
        trained, kept = (f"{len(part.token_ids):,}" for part in parts)
        documents = f"{n:,} documents" if n > 1 else "1 document, whose end is held out"
        say(f"{documents}: {trained} tokens to train on, {kept} held out.")
        return corpus


def choose_tokenizer(
    values: PresetValues, tokenizer: str | None, alphabet: str | None, reading: Reading
) -> None:
    """Let options and data decide what the tokenizer of a preset is.

    Args:
        values: of the preset, changed in place.
        tokenizer: name or file; None for that of the preset.
        alphabet: characters; None for those of the data, where they are asked for.
        reading: of the data.

    Raises:
        PresetError: the options contradict each other, or the alphabet is not given.
        DataError: a character of the data is not in the alphabet.
    """
    name = tokenizer
    if name is None:
        own = values.values.get("tokenizer", "bytes")
        name = own.get("name") if isinstance(own, dict) else own
        if alphabet is None and isinstance(own, dict) and "symbols" in own:
            return
        if alphabet is not None:
            name = "alphabet"
    if alphabet is not None and name != "alphabet":
        raise PresetError(f"--alphabet is for the tokenizer alphabet, not {name!r}")
    chosen: Any = tokenizer
    if name == "alphabet":
        if alphabet is None and reading.found is None:
            raise PresetError("an alphabet needs characters: give --alphabet, or texts with --data")
        symbols = alphabet
        if reading.found is not None:
            symbols = symbols or reading.found.symbols
            check_symbols(reading.found, symbols)
        chosen = {"name": name, "symbols": symbols}
    elif isinstance(name, str) and name.endswith(_FILE):
        chosen = {"name": "file", "path": str(Path(name).absolute())}
    if chosen is not None:
        values.replace("tokenizer", chosen, "--tokenizer" if alphabet is None else "--alphabet")


@contextmanager
def _watched() -> Iterator[Report]:
    """Shows how far reading is, if it takes a while."""
    began, seen = time.monotonic(), 0.0
    watch: Watch | None = None
    with ExitStack() as shown:

        def report(doing: str, share: float) -> None:
            nonlocal seen, watch
            if watch is None and time.monotonic() - began > _A_WHILE:
                watch = shown.enter_context(Watch("data", 1.0, 0.0))
            if watch is not None:
                watch.begin(doing)
                watch.advance(share - seen)
                seen = share

        yield report
