"""The options of commands that generate."""

from typing import Annotated

import typer

MaxTokens = Annotated[
    int | None,
    typer.Option(help="The most tokens to write.", min=0, metavar="N"),
]
MinTokens = Annotated[
    int | None,
    typer.Option(help="Write at least this many tokens.", min=0, metavar="N"),
]
AllowPartial = Annotated[
    bool,
    typer.Option("--allow-partial", help="If nothing is found, print the nearest that there is."),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        help="How freely to draw; 0 always takes the likeliest token.", min=0, metavar="T"
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        help="Draw from this many of the likeliest tokens; 0 for all.", min=0, metavar="K"
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(
        help="Draw from the likeliest tokens that together have this probability.",
        min=0,
        max=1,
        metavar="P",
    ),
]
MinP = Annotated[
    float | None,
    typer.Option(
        help="Draw only from tokens at least this fraction as likely as the likeliest one.",
        min=0,
        max=1,
        metavar="P",
    ),
]
Seed = Annotated[int | None, typer.Option(help="Make the draw repeatable.", min=0, metavar="N")]
Stop = Annotated[
    list[str] | None,
    typer.Option(help="Stop before this text. Can be given several times.", metavar="TEXT"),
]
Presence = Annotated[
    float | None,
    typer.Option(
        "--presence-penalty",
        help="Make tokens less likely that were written before.",
        metavar="PENALTY",
    ),
]
Frequency = Annotated[
    float | None,
    typer.Option(
        "--frequency-penalty",
        help="Make tokens less likely each time that they are written.",
        metavar="PENALTY",
    ),
]
Repetition = Annotated[
    float | None,
    typer.Option(
        "--repetition-penalty",
        help="Above 1, make tokens less likely that were read or written before.",
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
Raw = Annotated[bool, typer.Option("--raw", help="On a terminal, too, print the answer unchanged.")]
Deadline = Annotated[
    float | None,
    typer.Option(help="Seconds after which the server gives up.", min=0, metavar="SECONDS"),
]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait while another request is using the session.")
]
