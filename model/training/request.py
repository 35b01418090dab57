"""What a training is asked for, by the command or in process, and the trainer that comes of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from causalrn.model.checkpoint import Checkpoint
from causalrn.model.data.documents import Format
from causalrn.model.data.options import HELD_OUT
from causalrn.model.device import Device
from causalrn.model.training.preset import make_preset
from causalrn.model.training.preset_files import PresetValues
from causalrn.model.training.reading import Reading, choose_tokenizer
from causalrn.model.training.run import Run
from causalrn.model.training.trainer import Trainer


@dataclass(frozen=True)
class Request:
    """A training.

    Attributes:
        preset: its name, or the path of a TOML file.
        settings: values of the preset to replace; see `PresetValues.override`.
        data: files and folders to train on.
        form: how documents stand in files.
        held_out: share of the documents that is not trained on.
        tokenizer, alphabet: see `choose_tokenizer`.
        output: folder of the run; None for one named after the preset.
        restart: whether to delete what is in that folder.
        start: a checkpoint to begin with.
        save_every: see `Trainer`.
        device: what to compute on.
    """

    preset: str
    settings: Sequence[str] = ()
    data: Sequence[Path] = ()
    form: Format = field(default_factory=Format)
    held_out: float = HELD_OUT
    tokenizer: str | None = None
    alphabet: str | None = None
    output: Path | None = None
    restart: bool = False
    start: Checkpoint | None = None
    save_every: int | None = None
    device: Device = "cpu"

    def trainer(self) -> Trainer:
        """Look at the data, and make everything ready for the first step.

        Raises:
            PresetError: the preset, a setting or an option cannot be used.
            DataError: the data cannot be used.
            RunError: the folder holds another run, or no such decoder can be made.
        """
        values = PresetValues(self.preset)
        for setting in self.settings:
            values.override(setting)
        reading = Reading.of(self.data, self.form, self.held_out)
        choose_tokenizer(values, self.tokenizer, self.alphabet, reading)
        preset = make_preset(values)
        reading.check(preset.blueprint)
        run = Run(self.output if self.output is not None else Path("runs") / preset.name)
        if self.restart:
            run.clear()
        corpus = reading.read(preset.blueprint, run.folder / "data")
        fingerprint = None if corpus is None else corpus.fingerprint
        return Trainer(preset, run, self.start, self.save_every, self.device, fingerprint)
