"""The commands that measured a checkpoint, as they follow from the files that they wrote."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from causalrn.model.evaluation.plan import plan_names, read_plan


def read(file: Path) -> dict[str, Any]:
    """What a measurement wrote."""
    results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return results


def evaluate(results: dict[str, Any]) -> str:
    """The command that measured copies."""
    options = [_plan(results)]
    silenced = results.get("silenced_block", results.get("silenced_layer"))  # its former name
    if silenced is not None:
        options.append(f"--silence-block {silenced}")
    return _causalrn("evaluate", results, *options)


def turns(results: dict[str, Any]) -> str:
    """The command that measured sessions of many turns."""
    return _causalrn(
        "evaluate-turns",
        results,
        f"--turns {len(results['turns'])}",
        f"--lengths {_list(results['lengths'])}",
        f"--sessions {results['turns'][0]['n_sessions']}",
    )


def recall(results: dict[str, Any]) -> str:
    """The command that measured recall of passages."""
    return _causalrn("evaluate-recall", results, *_sessions(results))


def facts(results: dict[str, Any]) -> str:
    """The command that measured recall of facts."""
    names = ("facts", "together", "told")
    options = (f"--{name} {_list(results[name])}" for name in names)
    return _causalrn("evaluate-facts", results, *options)


def misses(results: dict[str, Any]) -> str:
    """The command that measured refusals."""
    return _causalrn("evaluate-misses", results, *_sessions(results))


def http(results: dict[str, Any]) -> str:
    """The command that measured copies through HTTP."""
    strings = max(cell["n_strings"] for cell in results["cells"])
    options = [
        f"--checkpoint checkpoints/{results['model']}",
        f"--plan {results['plan']}",
        f"--strings {strings}",
        f"--chunk {results['chunk']}",
        *_seed(results),
    ]
    return f"`python -m benchmarks.copies {' '.join(options)}`"


def _causalrn(name: str, results: dict[str, Any], *options: str) -> str:
    words = ["causalrn", name, results["checkpoint"], *options, *_seed(results)]
    return f"`{' '.join(words)}`"


def _seed(results: dict[str, Any]) -> list[str]:
    return [f"--seed {results['seed']}"] if results["seed"] else []


def _sessions(results: dict[str, Any]) -> list[str]:
    return [
        f"--pools {_list(results['pools'])}",
        f"--prefixes {_list(results['prefixes'])}",
        f"--queries {results['queries']}",
    ]


def _plan(results: dict[str, Any]) -> str:
    """The options that say what to copy. A plan of one's own has no name that the file knows."""
    plan = results.get("plan") or _plan_of(results["cells"])
    for name in plan_names():
        if plan == read_plan(name).model_dump(mode="json"):
            return f"--plan {name}"
    first, *others = plan["copies"]
    if others or first["kinds"]:
        return "--plan mine.toml"
    return f"--lengths {_list(first['lengths'])} --strings {first['strings']}"


def _plan_of(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """The plan of a file that was written before there were plans."""
    lengths = sorted({cell["length"] for cell in cells})
    return {"copies": [{"lengths": lengths, "strings": cells[0]["n_strings"], "kinds": None}]}


def _list(numbers: Iterable[int]) -> str:
    return ",".join(map(str, numbers))
