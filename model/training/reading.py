"""The texts of a user, from the command line to the task that is trained on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from causalrn.model.blueprint import Blueprint
from causalrn.model.data.corpus import Corpus, make_corpus
from causalrn.model.data.documents import Format
from causalrn.model.data.errors import DataError
from causalrn.model.data.survey import Survey, check_symbols, survey
from causalrn.model.progress import reported
from causalrn.model.tasks.base import ReadsData
from causalrn.model.terminal import say
from causalrn.model.tokenizers.alphabet import AlphabetTokenizer
from causalrn.model.training.preset_files import PresetError, PresetValues

_FILE = ".json"  # ends the names of tokenizers from files


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
        with reported("data") as report:
            return cls(survey(paths, form, report), form, held_out)

    def check(self, blueprint: Blueprint) -> None:
        """Return if a model can be trained on these files, or without any.

        Raises:
            DataError: its task needs texts, or reads none, or a character is not in its alphabet.
        """
        task, tokenizer = blueprint.task, blueprint.tokenizer
        if self.found is None:
            if isinstance(task, ReadsData) and task.needs_data:
                raise DataError(
                    f"the task {task.name!r} needs texts to train on; give files or folders with "
                    "--data"
                )
        elif not isinstance(task, ReadsData):
            raise DataError(f"--data: the task {task.name!r} reads no texts")
        elif isinstance(tokenizer, AlphabetTokenizer):
            check_symbols(self.found, tokenizer.symbols)

    def read(self, blueprint: Blueprint, folder: Path) -> Corpus | None:
        """Have the task of a model read the files.

        Args:
            blueprint: of the model, which `check` lets pass.
            folder: for tokens.

        Returns:
            What it has read; None if there are no files.

        Raises:
            DataError: there is too little, or it cannot be kept or made tokens of.
        """
        task = blueprint.task
        if self.found is None or not isinstance(task, ReadsData):
            return None
        try:
            with reported("data") as report:
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
        alphabet: characters; None for those of the preset or, without any, of the data.
        reading: of the data.

    Raises:
        PresetError: the options contradict each other, or there is no alphabet.
    """
    own = values.values.get("tokenizer")
    chosen, source = own, ""
    if tokenizer is not None:
        chosen, source = tokenizer, "--tokenizer"
        if tokenizer.endswith(_FILE):
            chosen = {"name": "file", "path": str(Path(tokenizer).absolute())}
    if alphabet is not None:
        if tokenizer not in (None, "alphabet"):
            raise PresetError(f"--alphabet is for the tokenizer alphabet, not {tokenizer!r}")
        chosen, source = {"name": "alphabet", "symbols": alphabet}, "--alphabet"
    elif chosen in ("alphabet", {"name": "alphabet"}):
        if reading.found is None:
            raise PresetError("an alphabet needs characters: give --alphabet, or texts with --data")
        chosen, source = {"name": "alphabet", "symbols": reading.found.symbols}, "--data"
    if chosen != own:
        values.replace("tokenizer", chosen, source)
