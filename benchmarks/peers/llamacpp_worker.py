"""Llama in llama.cpp, through its Python package; runs in an environment of its own.

    python -m benchmarks.peers.llamacpp_worker FOLDER --vocab 259 --width 192 --layers 2

`environments.sh` makes the environment. `LLAMA_CPP_LIB_PATH` names the folder of its libraries.
Writes a model of random weights, `model.gguf`, into a folder; then does jobs, see
`benchmarks.peers.worker`. The cache of keys and values is in float32, like everything else.
"""

import ctypes
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.peers.llamacpp_model import write_model
from benchmarks.peers.worker import Job, Timing, arguments, serve

# By name, since a type checker in this project's environment would look for them in vain.
llama: Any = import_module("llama_cpp.llama_cpp")
numpy: Any = import_module("numpy")

_QUIET = llama.llama_log_callback(lambda *_: None)  # else it tells of every context
_F32 = 0  # of `enum ggml_type`
_MOST_THREADS = 2
_BATCH = 2048  # tokens that one call takes; the library's default
_CACHE_BLOCK = 256  # what the library rounds the length of a sequence's cache up to


@dataclass(frozen=True)
class Settings:
    """What makes llama.cpp faster or slower.

    Attributes:
        flash: whether attention is computed in one operation.
        unified: whether all sequences share one cache, which attention then reads as a whole.
        threads: of a decoding step; reading a prompt always has two.
    """

    flash: bool
    unified: bool
    threads: int

    def __str__(self) -> str:
        flash = "with" if self.flash else "without"
        cache = "one cache" if self.unified else "a cache for each sequence"
        return f"{flash} flash attention, {cache}, {self.threads} threads"


def all_settings(job: Job) -> Iterator[Settings]:
    """Everything that is tried for a job."""
    for flash in (True, False):
        for unified in (False, True) if job.batch > 1 else (False,):
            for threads in range(1, _MOST_THREADS + 1):
                yield Settings(flash, unified, threads)


class Batch:
    """Tokens that one call takes, as arrays that the library reads in place."""

    def __init__(self) -> None:
        self.fields = llama.llama_batch_init(_BATCH, 0, 1)
        self._tokens, self._places, self._counts, self._wanted = (
            numpy.ctypeslib.as_array(field, (_BATCH,))
            for field in (
                self.fields.token,
                self.fields.pos,
                self.fields.n_seq_id,
                self.fields.logits,
            )
        )
        self._counts[:] = 1
        self._sequences = numpy.empty(_BATCH, numpy.int32)
        for number in range(_BATCH):
            address = self._sequences.ctypes.data + 4 * number
            pointer = ctypes.cast(address, ctypes.POINTER(llama.llama_seq_id))
            self.fields.seq_id[number] = pointer

    def fill(self, tokens: Any, places: Any, sequences: Any, wanted: Any) -> None:
        """Take tokens `[N]` with their places and sequences, and say whose logits are wanted."""
        n = len(tokens)
        self.fields.n_tokens = n
        self._tokens[:n] = tokens
        self._places[:n] = places
        self._sequences[:n] = sequences
        self._wanted[:n] = wanted


class Run:
    """Sequences of one job, in a context of their own."""

    def __init__(self, model: Any, batch: Batch, vocab_size: int, job: Job, one: Settings) -> None:
        length = job.prompt + job.new + job.draft
        length = -(-length // _CACHE_BLOCK) * _CACHE_BLOCK
        wanted = llama.llama_context_default_params()
        wanted.n_ctx = job.batch * length
        wanted.n_batch = _BATCH
        wanted.n_seq_max = job.batch
        wanted.n_threads, wanted.n_threads_batch = one.threads, _MOST_THREADS
        wanted.type_k = wanted.type_v = _F32
        wanted.flash_attn_type = int(one.flash)
        wanted.kv_unified = one.unified
        self._context = llama.llama_init_from_model(model, wanted)
        if not self._context:
            raise RuntimeError("llama.cpp made no context")
        self._batch = batch
        self._vocab_size = vocab_size
        self._job = job

    def close(self) -> None:
        """Give the memory back."""
        llama.llama_free(self._context)

    def read(self, prompts: Any) -> Any:
        """Read prompts `[B, T]`; returns the token that follows each, `[B]`."""
        n, length = prompts.shape
        sequences, places = numpy.divmod(numpy.arange(prompts.size), length)
        last = places == length - 1
        found = [
            self._decode(prompts.ravel()[part], places[part], sequences[part], last[part])
            for part in (slice(i, i + _BATCH) for i in range(0, prompts.size, _BATCH))
        ]
        tokens = numpy.concatenate(found)
        assert tokens.shape == (n,)
        return tokens

    def write(self, tokens: Any) -> None:
        """Write until every sequence has what the job asks for; `tokens` `[B]` are the first."""
        job = self._job
        wide = 1 + job.draft
        sequences = numpy.repeat(numpy.arange(job.batch), wide)
        steps = numpy.tile(numpy.arange(wide), job.batch)
        chunk = numpy.repeat(tokens, wide)
        for begin in range(job.prompt, job.prompt + job.new - 1, wide):
            chunk = self._decode(chunk, begin + steps, sequences, True)

    def _decode(self, tokens: Any, places: Any, sequences: Any, wanted: Any) -> Any:
        """One call; returns the likeliest token behind each whose logits are wanted."""
        self._batch.fill(tokens, places, sequences, wanted)
        if status := llama.llama_decode(self._context, self._batch.fields):
            raise RuntimeError(f"llama_decode returned {status}")
        n = len(tokens) if wanted is True else int(wanted.sum())
        if not n:
            return numpy.empty(0, numpy.int64)
        logits = llama.llama_get_logits(self._context)
        return numpy.ctypeslib.as_array(logits, (n, self._vocab_size)).argmax(-1)


def load(file: Path) -> Any:
    """The model, by the library that the environment has.

    Raises:
        RuntimeError: the library cannot load it.
    """
    llama.llama_log_set(_QUIET, None)
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(str(file).encode(), llama.llama_model_default_params())
    if not model:
        raise RuntimeError(f"llama.cpp cannot load {file}")
    return model


def main() -> None:
    """Make the model, then do jobs until standard input ends."""
    options = arguments(__doc__)
    file = options.folder / "model.gguf"
    n_parameters = write_model(file, options.vocab, options.width, options.layers)
    model, batch = load(file), Batch()
    rng = numpy.random.default_rng(0)

    def run(job: Job, settings: Settings) -> Timing:
        prompts = rng.integers(0, options.vocab, (job.batch, job.prompt))
        sequences = Run(model, batch, options.vocab, job, settings)
        try:
            began = time.perf_counter()
            tokens = sequences.read(prompts)
            first = time.perf_counter() - began
            sequences.write(tokens)
            return Timing(first, time.perf_counter() - began)
        finally:
            sequences.close()

    about = {"llama-cpp-python": version("llama-cpp-python"), "parameters": n_parameters}
    serve(about, all_settings, run)


if __name__ == "__main__":
    main()
