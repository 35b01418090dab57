"""The commands that evaluate sessions. What needs torch is imported where it is used."""

from typing import Annotated

import typer

from causalrn.model.arguments import (
    CheckpointName,
    DeviceOption,
    PoolDtypeOption,
    Threads,
    load,
    start_backend,
)
from causalrn.model.evaluation.errors import EvaluationError
from causalrn.model.evaluation.measuring import measure
from causalrn.model.evaluation.options import Output, Restart, Seed, numbers
from causalrn.model.terminal import fail

commands = typer.Typer()
_Pools = Annotated[
    str,
    typer.Option(
        help="How many tokens a session reads before it is asked, separated by commas.",
        metavar="N,N,…",
    ),
]
_MOST_FACTS = 100_000


@commands.command("evaluate-turns")
def turns(
    checkpoint: CheckpointName,
    turns: Annotated[
        int, typer.Option(help="How many strings each session copies.", min=1, metavar="N")
    ] = 20,
    lengths: Annotated[
        str, typer.Option(help="Lengths of the shortest and the longest string.", metavar="N,N")
    ] = "8,64",
    sessions: Annotated[
        int, typer.Option(help="How many sessions to measure.", min=1, metavar="N")
    ] = 50,
    seed: Seed = 0,
    output: Output = None,
    restart: Restart = False,
    threads: Threads = None,
    pool_dtype: PoolDtypeOption = "float32",
    device: DeviceOption = "auto",
) -> None:
    """Measure how exactly a checkpoint copies one string after another in one session.

    What the model writes stays in the session, mistakes included, as on a server. Two
    Markdown tables show how many copies were exact, by turn and by kind of string. Ctrl-C stops and
    prints the results so far, and with --output, the same command goes on from there.
    """
    from causalrn.model.evaluation.turns import turns as measurement

    start_backend(threads, device)
    loaded = load(checkpoint, pool_dtype, device)
    bounds = numbers("--lengths", lengths, most=loaded.config.max_seq_len)
    if len(bounds) > 2:
        fail(f"--lengths takes the shortest and the longest, got {lengths!r}")
    try:
        wanted = measurement(
            loaded,
            n_turns=turns,
            lengths=(bounds[0], bounds[-1]),
            n_sessions=sessions,
            seed=seed,
        )
    except EvaluationError as error:
        fail(error)
    measure(loaded, wanted, output, restart=restart)


@commands.command("evaluate-recall")
def recall(
    checkpoint: CheckpointName,
    pools: _Pools = "256,1024,4096",
    prefixes: Annotated[
        str,
        typer.Option(
            help="How many of a passage's tokens are given, separated by commas.",
            metavar="N,N,…",
        ),
    ] = "4,8,16,32,64",
    queries: Annotated[
        int,
        typer.Option(
            help="How many passages to ask for, of each kind, pool, prefix and place.",
            min=1,
            metavar="N",
        ),
    ] = 20,
    seed: Seed = 0,
    output: Output = None,
    restart: Restart = False,
    threads: Threads = None,
    pool_dtype: PoolDtypeOption = "float32",
    device: DeviceOption = "auto",
) -> None:
    """Measure how exactly a checkpoint recalls passages from some of their words.

    A session reads passages until it holds the wanted number of tokens. Then it is given tokens
    from the beginning or the middle of one of them, which stand nowhere else, and the model goes on
    token by token, as on a server, to the passage's end. Markdown tables show the results by kind
    of text and by the lengths of pool and prefix. Ctrl-C stops and prints the results so far, and
    with --output, the same command goes on from there.
    """
    from causalrn.model.evaluation.recall import recall as measurement

    start_backend(threads, device)
    loaded = load(checkpoint, pool_dtype, device)
    longest = loaded.config.max_seq_len
    try:
        wanted = measurement(
            loaded,
            pools=numbers("--pools", pools, most=longest),
            prefixes=numbers("--prefixes", prefixes, most=longest),
            n_queries=queries,
            seed=seed,
        )
    except EvaluationError as error:
        fail(error)
    measure(loaded, wanted, output, restart=restart)


@commands.command("evaluate-facts")
def facts(
    checkpoint: CheckpointName,
    facts: Annotated[
        str,
        typer.Option(
            help="How many facts of one pattern a session reads, separated by commas.",
            metavar="N,N,…",
        ),
    ] = "100",
    together: Annotated[
        str,
        typer.Option(
            help="How many of them stand in one turn, separated by commas.", metavar="N,N,…"
        ),
    ] = "1",
    told: Annotated[
        str,
        typer.Option(
            help="How often each fact is told, separated by commas: every time with another "
            "value, the last of which is right.",
            metavar="N,N,…",
        ),
    ] = "1",
    seed: Seed = 0,
    output: Output = None,
    restart: Restart = False,
    threads: Threads = None,
    pool_dtype: PoolDtypeOption = "float32",
    device: DeviceOption = "auto",
) -> None:
    """Measure whether a checkpoint keeps apart many short facts that are all alike.

    A session reads phone numbers, ferries, prices, or keys with their values, each about a name of
    its own. Then it is asked for every one of them by its beginning, such as "Koda's phone number
    is ". A Markdown table shows how many came back right. Ctrl-C stops and prints the results so
    far, and with --output, the same command goes on from there.
    """
    from causalrn.model.evaluation.fact_recall import fact_recall as measurement

    start_backend(threads, device)
    loaded = load(checkpoint, pool_dtype, device)
    try:
        wanted = measurement(
            loaded,
            facts=numbers("--facts", facts, most=_MOST_FACTS),
            together=numbers("--together", together, most=_MOST_FACTS),
            told=numbers("--told", told, most=_MOST_FACTS),
            seed=seed,
        )
    except EvaluationError as error:
        fail(error)
    measure(loaded, wanted, output, restart=restart)


@commands.command("evaluate-misses")
def misses(
    checkpoint: CheckpointName,
    pools: _Pools = "256,1024,4096",
    prefixes: Annotated[
        str,
        typer.Option(help="How many tokens are given, separated by commas.", metavar="N,N,…"),
    ] = "8,16,32",
    queries: Annotated[
        int,
        typer.Option(
            help="How many misses, and as many hits, of each kind, pool, prefix and sort.",
            min=1,
            metavar="N",
        ),
    ] = 20,
    seed: Seed = 0,
    output: Output = None,
    restart: Restart = False,
    threads: Threads = None,
    pool_dtype: PoolDtypeOption = "float32",
    device: DeviceOption = "auto",
) -> None:
    """Measure whether a checkpoint can tell what it has read from what it has not.

    A session is asked for prefixes that stand in what it has read, and for as many that stand
    nowhere: true ones with a token changed, two joined, random text, and names that it never read.
    Markdown tables show how many of these are refused for lack of a match, and how many right
    recalls are given; how the matches of both are distributed; and which least match would refuse
    at most one right recall in a thousand. Ctrl-C stops and prints the results so far, and with
    --output, the same command goes on from there.
    """
    from causalrn.model.evaluation.refusals import refusals as measurement

    start_backend(threads, device)
    loaded = load(checkpoint, pool_dtype, device)
    longest = loaded.config.max_seq_len
    try:
        wanted = measurement(
            loaded,
            pools=numbers("--pools", pools, most=longest),
            prefixes=numbers("--prefixes", prefixes, most=longest),
            n_queries=queries,
            seed=seed,
        )
    except EvaluationError as error:
        fail(error)
    measure(loaded, wanted, output, restart=restart)
