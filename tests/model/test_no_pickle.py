"""Nothing in `model/` reads or writes pickles, which run code when they are loaded."""

import ast
from pathlib import Path

import pytest

import causalrn.model

ROOT = Path(causalrn.model.__file__).parent
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {"torch.load", "torch.save", "torch.jit.load", "torch.package", "numpy.load", "np.load"}


def pickles_in(source: str) -> list[str]:
    """What in a module's source may pickle: imports, calls, `allow_pickle` other than False."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                names = [alias.name for alias in node.names]
            case ast.ImportFrom(module=str(base)):
                names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
            case ast.Attribute():
                names = [ast.unparse(node)]
            case ast.keyword(arg="allow_pickle", value=value) if ast.unparse(value) != "False":
                names = ["allow_pickle"]
            case _:
                names = []
        bad = MODULES | CALLS | {"allow_pickle"}
        found += [name for name in names if name in bad or name.split(".")[0] in MODULES]
    return found


@pytest.mark.parametrize("file", sorted(ROOT.rglob("*.py")), ids=lambda f: str(f.relative_to(ROOT)))
def test_no_pickle(file: Path) -> None:
    assert pickles_in(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "def f():\n    from torch import load",
        "import torch\ntorch.load('x')",
        "saver = torch.save",
        "from numpy import load",
        "np.load(f)",
        "read(f, allow_pickle=True)",
        "read(f, allow_pickle=flag)",
        "import joblib.numpy_pickle",
    ],
)
def test_each_way_to_pickle_is_seen(source: str) -> None:
    assert pickles_in(source)


@pytest.mark.parametrize("source", ["from safetensors.torch import load", "model.load(x)"])
def test_other_loading_is_not(source: str) -> None:
    assert pickles_in(source) == []
