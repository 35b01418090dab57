"""An engine core that a test steps by hand."""

from typing import Any, Generic, TypeVar

from server.engine_core import EngineCore
from server.errors import EngineError
from server.generation import Generation, GenerationParams
from server.sequence import Sequence
from server.served_model import ServedModel
from server.settings import Settings
from server.token_stream import Delta, Progress
from tests.server.fake_model import FakeDecoder

Model = TypeVar("Model", bound=ServedModel)


class Driver(Generic[Model]):
    """A core, stepped by hand, and what came out of it."""

    def __init__(self, model: Model, settings: Settings, *, reuse: bool = True) -> None:
        self.model = model
        self.reuse = reuse
        self.core = EngineCore(model, settings)
        self.text: dict[str, str] = {}
        self.ended: dict[str, str] = {}
        self.failed: set[str] = set()
        self.deltas: dict[str, list[list[Delta]]] = {}

    def add(
        self,
        id: str,
        text: str,
        max_tokens: int | None = None,
        stop: tuple[str, ...] = (),
        **options: Any,
    ) -> None:
        ids = self.model.tokenizer.encode(text)
        if max_tokens is None:
            max_tokens = len(ids) + 1
        params = GenerationParams(max_tokens, stop=stop, **options)
        progress = Progress(0.0)
        samples = [
            Generation(
                id,
                Sequence(
                    f"{id}-{index}",
                    self.model.wrap(ids),
                    max_tokens,
                    turn=(0.0, len(self.text)),
                    reusable=self.reuse and not params.echo,
                ),
                params,
                self.model.tokenizer,
                progress,
                index,
            )
            for index in range(params.n)
        ]
        samples[0].samples = samples[1:]
        self.core.add(samples[0])
        self.deltas[id] = [[] for _ in samples]
        self.text |= {id if index == 0 else f"{id}-{index}": "" for index in range(params.n)}

    def step(self) -> None:
        for id, outcome in self.core.step():
            assert id not in self.failed
            if isinstance(outcome, Delta):
                self.deltas[id][outcome.index].append(outcome)
                name = id if outcome.index == 0 else f"{id}-{outcome.index}"
                assert name not in self.ended
                self.text[name] += outcome.text
                if outcome.finish_reason is not None:
                    self.ended[name] = outcome.finish_reason
            else:
                assert isinstance(outcome, EngineError)
                self.failed.add(id)
                self.ended[id] = "error"

    def joined(self, id: str, index: int = 0) -> Delta:
        return Delta.join(self.deltas[id][index])

    def run(self) -> None:
        while self.core.n_live:
            self.step()
        self.assert_idle()

    def assert_idle(self) -> None:
        """Everything is given back, and a fake model was never misused."""
        scheduler = self.core.scheduler
        assert (scheduler.allocator.n_used, scheduler.n_free_slots) == (0, scheduler.n_slots)
        assert (len(scheduler.running), len(scheduler.waiting), self.core.n_live) == (0, 0, 0)
        if isinstance(self.model.decoder, FakeDecoder):
            assert self.model.decoder.misuses == []
