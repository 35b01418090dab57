"""`causalrn models`: which checkpoints come with the project."""

import json

import typer

from causalrn.model.shipped import CHECKPOINTS, DEFAULT, shipped_names
from causalrn.model.tables import markdown

commands = typer.Typer()


@commands.command()
def models() -> None:
    """List the checkpoints that come with the project, by the names that other commands take."""
    rows = [["name", "task", "tokens of", "holds", "size"]]
    for name in shipped_names():
        folder = CHECKPOINTS / name
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        tokenizer = config["tokenizer"]
        size = (folder / "model.safetensors").stat().st_size
        rows.append(
            [
                f"{name} (default)" if name == DEFAULT else name,
                config["task"]["name"],
                tokenizer if isinstance(tokenizer, str) else tokenizer["name"],
                f"{config['model']['max_seq_len']:,} tokens",
                f"{size / 1e6:.1f} MB",
            ]
        )
    typer.echo(markdown(rows), nl=False)
    typer.echo(f"\nThey are in {CHECKPOINTS}; each has a card, README.md.", err=True)
