"""Writes docs/python-reference.md from the docstrings: `make reference`."""

import re
import sys
from pathlib import Path

from griffe import Class, GriffeLoader, Module, Parser
from griffe2md import ConfigDict, render_object_docs

SOURCE = Path(__file__).parent / "src"
TARGET = Path(__file__).parents[2] / "docs" / "python-reference.md"
PACKAGE = "causalrn_client"
LINE = 100
HEAD = """# The Python client: reference

Everything that `causalrn_client` exports. [The guide](python-client.md) says how it goes together.
`make reference` writes this file from the docstrings; do not edit it.
"""
CONFIG: ConfigDict = {
    "filters": ["!^_"],
    "heading_level": 3,
    "line_length": LINE,
    "members_order": "source",
    "show_if_no_docstring": False,
    "show_object_full_path": False,
    "show_root_full_path": False,
    "show_root_members_full_path": False,
    "show_signature_annotations": True,
    "summary": False,
}
# Modules, each with what it exports, under a heading of their own.
PARTS = {
    "The clients": ["client", "async_client"],
    "Streams": ["stream", "async_stream"],
    "Sessions": ["session_info", "session", "async_session"],
    "What the server answers": ["models", "model_info", "score"],
    "What can go wrong": ["errors"],
}
# Not exported, but named by signatures.
KEYWORDS = ["SharedOptions", "TurnOptions", "BatchOptions", "GenerateOptions"]


def main(target: Path) -> None:
    """Write the reference."""
    loader = GriffeLoader(
        search_paths=[SOURCE],
        docstring_parser=Parser.google,
        docstring_options={"ignore_init_summary": True},
    )
    package = loader.load(PACKAGE)
    assert isinstance(package, Module)
    exported = {str(name) for name in package.exports or []}
    classes: dict[str, Class] = {}
    pieces = [HEAD]
    for title, modules in PARTS.items():
        found = [
            member
            for module in modules
            for member in package[module].classes.values()
            if not member.is_alias and member.name in exported
        ]
        classes |= {member.name: member for member in found}
        pieces += [f"## {title}\n", *[_render(member) for member in found]]
    assert exported - classes.keys() == {"__version__"}, exported - classes.keys()
    options = [package["turn_options"][name] for name in KEYWORDS]
    pieces += ["## Keywords\n", *[_keywords(option) for option in options]]
    text = "\n".join(pieces)
    text = re.sub(r"\[([^][]*)\]\(#([\w.]+)\)", lambda link: _link(link, classes), text)
    text = re.sub(r"<code>((?:(?!]\()[^<])*)</code>", r"`\1`", text)
    target.write_text(re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n", encoding="utf-8")


def _render(member: Class) -> str:
    """One class; its methods are headed by its name too, so that each heading is the only one."""
    text = render_object_docs(member, CONFIG)
    text = re.sub(r"(?<=```python\n)(.*)(?=\n```)", lambda found: _wrap(found[1]), text)
    return re.sub(r"^#### `(\w+)`", rf"#### `{member.name}.\1`", text, flags=re.MULTILINE)


def _wrap(signature: str) -> str:
    """A signature that is too long for a line, with a line for each parameter."""
    if len(signature) <= LINE:
        return signature
    head, _, rest = signature.partition("(")
    inner, arrow, result = rest.rpartition(") -> ")
    depth, parameters = 0, [""]
    for character in inner:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth:
            parameters.append("")
        else:
            parameters[-1] += character
    lines = "".join(f"    {parameter.strip()},\n" for parameter in parameters)
    return f"{head}(\n{lines}{arrow}{result}"


def _keywords(option: Class) -> str:
    """The keywords that a `TypedDict` names."""
    assert option.docstring is not None
    names = ", ".join(f"`{name}`" for name in option.attributes)
    return f"### `{option.name}`\n\n{option.docstring.value}\n\n{names}\n"


def _link(link: re.Match[str], classes: dict[str, Class]) -> str:
    """A link to a class of this file; or the text alone, where nothing here is linked to."""
    text, name = link[1], link[2].rpartition(".")[2]
    is_here = link[2].startswith(PACKAGE) and name in classes and text == name
    return f"[{text}](#{name.lower()})" if is_here else text


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET)
