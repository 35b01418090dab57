"""Writes the synchronous client from the asynchronous one, so that both stay the same.

python clients/python/unasync.py            # after a change in src/causalrn_client/_async
python clients/python/unasync.py --check    # fails if that was forgotten
"""

import re
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent / "src" / "causalrn_client"
SOURCE = PACKAGE / "_async"
TARGET = PACKAGE / "_sync"
HEAD = "# Written by unasync.py from _async/{name}; change that one.\n"
# Applied in this order, to the code as well as to its comments and docstrings.
SUBSTITUTIONS = [
    (r"\ban (`?)(?=async\b|Async[A-Z])", r"a \1"),
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAwaitable\[(\w+)\]", r"\1"),
    (r"\b(Stop)?Async(?=[A-Z])", r"\1"),
    (r"\basync_(?=[a-z])", ""),
    (r"\b_async\b", "_sync"),
    (r"\b__a(?=(enter|exit|iter|next)__)", "__"),
    (r"\ba(?=(close|closing|iter_bytes|next|read)\b)", ""),
]
# What is left to mend: unused imports, the order of imports, loops that only yield.
MENDED = "F401,I,UP028"


def main() -> None:
    """Writes all files, or with `--check` compares them with those that are there."""
    written = {path.name: convert(path) for path in SOURCE.glob("*.py") if path.stem != "__init__"}
    written["__init__.py"] = '"""The client for threads, which `unasync.py` writes."""\n'
    if "--check" in sys.argv[1:]:
        found = {path.name: path.read_text("utf-8") for path in TARGET.glob("*.py")}
        if found != written:
            sys.exit(f"{TARGET} is out of date: run python {Path(__file__).name}")
        return
    for path in TARGET.glob("*.py"):
        path.unlink()
    for name, text in written.items():
        (TARGET / name).write_text(text, "utf-8")


def convert(path: Path) -> str:
    """The synchronous twin of an asynchronous module."""
    text = path.read_text("utf-8")
    for pattern, replacement in SUBSTITUTIONS:
        text = re.sub(pattern, replacement, text)
    name = str(TARGET / path.name)
    text = ruff(text, "check", "--quiet", "--fix", "--unsafe-fixes", f"--select={MENDED}", name)
    return ruff(HEAD.format(name=path.name) + text, "format", name)


def ruff(text: str, command: str, *options: str) -> str:
    """A module as ruff leaves it.

    Args:
        text: the module.
        command: of ruff's.
        options: of the command; the last one is the name of the module's file.
    """
    *flags, name = options
    asked = [sys.executable, "-m", "ruff", command, *flags, f"--stdin-filename={name}", "-"]
    done = subprocess.run(asked, input=text, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


if __name__ == "__main__":
    main()
