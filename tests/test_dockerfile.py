"""The Dockerfile, run as far as it can be without a container engine.

The last stage is assembled in a temporary folder from its COPY lines and `.dockerignore`; its RUN
lines are executed there, then its CMD, and its HEALTHCHECK against that. The environment that runs
the tests stands in for the one that the first stage builds.
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from subprocess import DEVNULL, PIPE

import pytest

ROOT = Path(__file__).parents[1]
INSTRUCTIONS = {
    "ARG", "CMD", "COPY", "ENV", "EXPOSE", "HEALTHCHECK", "RUN", "USER", "VOLUME", "WORKDIR"
}  # fmt: skip
# RUN lines that need root or an index of packages.
NOT_HERE = ("useradd ", "python -m venv ", "pip install ")


@dataclass
class Stage:
    """One FROM and what follows it: instruction, flags, value."""

    image: str
    name: str
    lines: list[tuple[str, dict[str, str], str]] = field(default_factory=list)

    def values(self, instruction: str) -> list[str]:
        return [value for name, _, value in self.lines if name == instruction]

    def env(self) -> dict[str, str]:
        pairs = [pair for value in self.values("ENV") for pair in value.split()]
        return dict(pair.split("=", 1) for pair in pairs)


def parse(text: str) -> list[Stage]:
    """Stages of a Dockerfile that has no heredocs and no quotes in ENV."""
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"\\\n\s*", "", text)
    stages: list[Stage] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, value = line.split(maxsplit=1)
        flags = {}
        while match := re.match(r"--([a-z-]+)=(\S+)\s+", value):
            flags[match[1]] = match[2]
            value = value[match.end() :]
        if name == "FROM":
            image, _, alias = value.partition(" AS ")
            stages.append(Stage(image, alias))
        else:
            assert name in INSTRUCTIONS, line
            stages[-1].lines.append((name, flags, value))
    return stages


def is_sent(path: PurePosixPath, patterns: list[str]) -> bool:
    """Whether `.dockerignore` lets a file into the context.

    The last pattern that matches decides; one that matches a folder matches all that is inside.
    """
    sent = True
    for pattern in patterns:
        glob = re.escape(pattern.removeprefix("!"))
        regex = glob.replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        if any(re.fullmatch(regex, str(part)) for part in (path, *path.parents)):
            sent = pattern.startswith("!")
    return sent


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    return parse((ROOT / "Dockerfile").read_text())


@pytest.fixture(scope="module")
def context() -> list[PurePosixPath]:
    """The files that an engine would be sent."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    files = []
    for top, folders, names in os.walk(ROOT):
        here = PurePosixPath(Path(top).relative_to(ROOT))
        folders[:] = [name for name in folders if name not in {".git", ".venv"}]
        files += [here / name for name in names if is_sent(here / name, patterns)]
    return files


def taken(source: str, context: list[PurePosixPath]) -> list[PurePosixPath]:
    """The files of the context that a source of COPY stands for."""
    return [path for path in context if PurePosixPath(source) in (path, *path.parents)]


@dataclass(frozen=True)
class Image:
    """The last stage, as far as it could be made: its files under `root`."""

    root: Path
    workdir: Path
    env: dict[str, str]
    command: list[str]
    healthcheck: list[str]

    def is_healthy(self, port: int) -> bool:
        env = self.env | {"UVICORN_PORT": str(port)}
        return subprocess.call(self.healthcheck, env=env, cwd=self.root, stderr=DEVNULL) == 0

    def kernels(self) -> set[Path]:
        return set((self.root / self.env["NUMBA_CACHE_DIR"]).rglob("*.nbc"))


@pytest.fixture(scope="module")
def image(
    stages: list[Stage], context: list[PurePosixPath], tmp_path_factory: pytest.TempPathFactory
) -> Image:
    stage = stages[-1]
    root = tmp_path_factory.mktemp("image")
    env = {
        name: f"{root}{value}" if value.startswith("/var/") else value
        for name, value in stage.env().items()
    }
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}/usr/bin{os.pathsep}/bin"
    env["HOME"] = str(root / "home/nobody")  # as in the image, it is not there
    workdir = root
    for instruction, flags, value in stage.lines:
        if instruction == "WORKDIR":
            workdir = Path(f"{root}{value}")
            workdir.mkdir(parents=True)
            env["PYTHONPATH"] = str(workdir)  # for the link that the first stage installs
        elif instruction == "COPY" and "from" not in flags:
            *sources, target = value.split()
            for source in sources:
                for path in taken(source, context):
                    inside = path.relative_to(source) if path != PurePosixPath(source) else path
                    to = workdir / target / inside
                    to.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(ROOT / path, to)
        elif instruction == "RUN" and not value.startswith(NOT_HERE):
            done = subprocess.run(
                value, shell=True, env=env, cwd=workdir, stderr=PIPE, text=True, check=False
            )
            assert done.returncode == 0, f"{value}\n{done.stderr}"
    return Image(
        root,
        workdir,
        env,
        json.loads(stage.values("CMD")[0]),
        json.loads(stage.values("HEALTHCHECK")[0].removeprefix("CMD ")),
    )


@dataclass(frozen=True)
class Container:
    """A running CMD."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    kernels: set[Path]  # that were there before it started


@pytest.fixture
def container(image: Image) -> Iterator[Container]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert not image.is_healthy(port)
    env = image.env | {"UVICORN_PORT": str(port), "UVICORN_HOST": "127.0.0.1"}
    log = image.root / "log"
    kernels = image.kernels()
    with log.open("wb") as output:
        process = subprocess.Popen(
            image.command, env=env, cwd=image.workdir, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + 120
        while not image.is_healthy(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)  # looking takes a core, too
        yield Container(process, port, log, kernels)
    finally:
        process.kill()
        process.wait()


def test_it_is_built_in_two_stages_from_one_python(stages: list[Stage]) -> None:
    builder, final = stages
    assert builder.image == final.image
    assert re.fullmatch(r"python:3\.\d+-slim", final.image)
    assert [flags["from"] for name, flags, _ in final.lines if name == "COPY" and flags] == [
        builder.name
    ]


def test_what_is_copied_is_in_the_context_and_nothing_else_is(
    stages: list[Stage], context: list[PurePosixPath]
) -> None:
    copied = set()
    for stage in stages:
        for instruction, flags, value in stage.lines:
            if instruction == "COPY" and "from" not in flags:
                for source in value.split()[:-1]:
                    assert taken(source, context), f"{source} is not in the context"
                    copied |= set(taken(source, context))
    assert set(context) == copied
    assert not any("__pycache__" in path.parts for path in context)


def test_one_version_of_torch_is_spoken_of(stages: list[Stage]) -> None:
    pins = re.findall(r"^torch==\S+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    installs = [line for stage in stages for line in stage.values("RUN") if "torch==" in line]
    assert [install.split()[-1] for install in installs] == pins
    assert f"pip install {pins[0]} " in (ROOT / "Makefile").read_text()


def test_it_does_not_run_as_root(stages: list[Stage]) -> None:
    final = stages[-1]
    (user,) = final.values("USER")
    assert any(line.startswith("useradd ") and f" {user} " in line for line in final.values("RUN"))
    assert f"--owner={user} {final.env()['NUMBA_CACHE_DIR']}" in " ".join(final.values("RUN"))


def test_sessions_are_kept_in_a_volume_that_the_user_may_write(stages: list[Stage]) -> None:
    final = stages[-1]
    (user,), (volume,) = final.values("USER"), final.values("VOLUME")
    assert str(PurePosixPath(final.env()["CAUSALRN_SESSION_STORE"]).parent) == volume
    (install,) = [line for line in final.values("RUN") if f"--owner={user}" in line]
    assert volume in install


def test_whoever_runs_it_may_read_it(image: Image) -> None:
    files = [path for path in image.workdir.rglob("*") if path.is_file()]
    assert image.workdir / "checkpoints/recall-bytes/model.safetensors" in files
    assert [path for path in files if not path.stat().st_mode & 0o004] == []


def test_it_listens_to_the_outside_on_the_port_it_exposes(stages: list[Stage]) -> None:
    env = stages[-1].env()
    assert env["UVICORN_HOST"] == "0.0.0.0"
    assert stages[-1].values("EXPOSE") == [env["UVICORN_PORT"]]


def test_it_copies_without_compiling_and_leaves_at_a_signal(
    image: Image, container: Container
) -> None:
    assert container.kernels
    connection = http.client.HTTPConnection("127.0.0.1", container.port, timeout=30)
    text = "What goes in comes out: äöü, 漢字, 🦀."
    connection.request("POST", "/sessions")
    session = json.load(connection.getresponse())
    body = json.dumps({"prompt": text, "session_id": session["id"]}).encode()
    connection.request("POST", "/generate", body, {"Content-Type": "application/json"})
    answer = json.load(connection.getresponse())
    connection.close()
    assert answer["text"] == text
    assert Path(image.env["CAUSALRN_SESSION_STORE"]).is_file()
    assert image.kernels() == container.kernels

    container.process.send_signal(signal.SIGTERM)
    # uvicorn shuts down in order and then raises the signal again.
    assert container.process.wait(timeout=10) in {0, -signal.SIGTERM}
    log = container.log.read_text()
    assert "Application shutdown complete." in log
    assert "Traceback" not in log
    assert not image.is_healthy(container.port)


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("secret.env", False),
        ("model/config.py", True),
        ("model/ops/__pycache__/jit.nbc", False),
        ("model_old/config.py", False),
        ("checkpoints/other/config.json", False),
        ("checkpoints/recall-bytes/config.json", True),
    ],
)
def test_the_last_matching_pattern_decides(path: str, sent: bool) -> None:
    patterns = ["*", "!model", "!checkpoints/recall-bytes", "**/__pycache__"]
    assert is_sent(PurePosixPath(path), patterns) is sent


def test_an_instruction_goes_on_over_lines_and_comments() -> None:
    stages = parse(
        "# syntax\nFROM a:1 AS one\nRUN first \\\n    # why\n    && second\n"
        "FROM b\nCOPY --from=one --chown=x /a /b\nENV A=1 \\\n  B=$A\n"
    )
    assert [(stage.image, stage.name) for stage in stages] == [("a:1", "one"), ("b", "")]
    assert stages[0].values("RUN") == ["first && second"]
    assert stages[1].lines[0] == ("COPY", {"from": "one", "chown": "x"}, "/a /b")
    assert stages[1].env() == {"A": "1", "B": "$A"}
