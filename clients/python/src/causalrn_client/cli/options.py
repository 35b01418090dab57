"""The options of commands that generate."""

from typing import Annotated

import typer

MaxTokens = Annotated[
    int | None,
    typer.Option(help="Tokens at most.", min=0, metavar="N"),
]
MinTokens = Annotated[
    int | None,
    typer.Option(help="Tokens before the model may end.", min=0, metavar="N"),
]
Temperature = Annotated[
    float | None, typer.Option(help="0 takes the likeliest token.", min=0, metavar="T")
]
TopK = Annotated[
    int | None, typer.Option(help="Draw from the k likeliest; 0 for all.", min=0, metavar="K")
]
TopP = Annotated[
    float | None,
    typer.Option(help="Draw from the likeliest of this total.", min=0, max=1, metavar="P"),
]
MinP = Annotated[
    float | None,
    typer.Option(
        help="Draw from those at least this share as likely as the likeliest.",
        min=0,
        max=1,
        metavar="P",
    ),
]
Seed = Annotated[int | None, typer.Option(help="Makes a draw repeatable.", min=0, metavar="N")]
Stop = Annotated[
    list[str] | None,
    typer.Option(help="Stop before this text; may be given again.", metavar="TEXT"),
]
Presence = Annotated[
    float | None,
    typer.Option(
        "--presence-penalty", help="Makes what was written less likely.", metavar="PENALTY"
    ),
]
Frequency = Annotated[
    float | None,
    typer.Option(
        "--frequency-penalty",
        help="Makes what was written less likely each time.",
        metavar="PENALTY",
    ),
]
Repetition = Annotated[
    float | None,
    typer.Option(
        "--repetition-penalty",
        help="Above 1, makes what was read or written less likely.",
        metavar="PENALTY",
    ),
]
Mode = Annotated[
    str | None,
    typer.Option(
        help="What to do with the text: copy (repeat it), recall (continue the passage that it "
        "begins) or raw (continue it as it is), if the model can. By default the server chooses.",
        metavar="MODE",
        show_default=False,
    ),
]
Deadline = Annotated[
    float | None,
    typer.Option(help="Seconds after which the server gives up.", min=0, metavar="SECONDS"),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait while another request has the session.")]
