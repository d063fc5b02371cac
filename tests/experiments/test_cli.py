"""The command line: what it lists, what it refuses and with which status."""

import argparse
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest

from datamodules.errors import UserError
from datamodules.files import whole_output
from experiments import cli
from experiments.config import config_names
from experiments.train import GROUPS
from experiments.version import __version__


def fake_command(monkeypatch: pytest.MonkeyPatch, run, overrides: bool = False) -> None:
    """Put a sub-command ``fake`` in the table."""

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--flag", action="store_true")
        if overrides:
            parser.add_argument("overrides", nargs="*")

    module = types.ModuleType("fake_command")
    module.add_arguments, module.run = add_arguments, run
    monkeypatch.setitem(sys.modules, "fake_command", module)
    monkeypatch.setitem(cli.COMMANDS, "fake", "does nothing")
    monkeypatch.setitem(cli.MODULES, "fake", "fake_command")
    monkeypatch.setattr(cli, "OVERRIDING", ("fake",) if overrides else ())


WRONG_NUMBERS = [
    "seed=abc",
    "seed=-1",
    "seed=1.5",
    "data.batch_size=0",
    "data.batch_size=-3",
    "data.num_workers=-1",
    "data.pairs_per_clip=0",
    "data.windows_per_clip=0",
    "trainer.max_steps=0",
    "trainer.max_steps=abc",
    "+trainer.limit_train_batches=0",
    "trainer.max_epochs=0",
    "model.optimizer.lr=-1",
    "model.optimizer.lr=abc",
]
HEAVY = ("torch", "lightning", "mediapipe", "transformers", "scipy", "matplotlib", "av")


def run_python(code: str) -> str:
    """What Python code in a process of its own writes."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True).stdout


def test_help_lists_every_command() -> None:
    told = run_python("import sys; from experiments.cli import main; sys.exit(main(['--help']))")
    assert {*cli.COMMANDS} <= {line.split()[0] for line in told.splitlines() if line.startswith("    ")}


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_is_quick(name: str) -> None:
    """It loads nothing heavy, which is what takes seconds."""
    code = f"""
import sys
from experiments.cli import main
assert main(["{name}", "--help"]) == 0
print([module for module in {HEAVY} if module in sys.modules])
"""
    told = run_python(code)
    assert told.startswith(f"usage: ifmdm {name}")
    if name == "train":
        listed = told.replace("\n", " ")
        assert all(f"{one}" in listed for group in GROUPS for one in [f"{group}: ", *config_names(group)])
    assert "--threads N" in told
    assert told.splitlines()[-1] == "[]"


def test_a_reader_who_has_seen_enough_is_no_error() -> None:
    code = "import sys; from experiments.cli import main; sys.exit(main(['assets', 'list']))"
    command = ["/bin/bash", "-c", f'{sys.executable} -c "{code}" | true']
    assert subprocess.run(command, capture_output=True, text=True, check=True).stderr == ""


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"ifmdm {__version__}"


@pytest.mark.parametrize("words", ["['assets', 'list']", "['--version']"])
def test_a_closed_output_is_no_error(words: str) -> None:
    code = f"import sys; from experiments.cli import main; sys.exit(main({words}))"
    done = subprocess.run(
        ["/bin/bash", "-c", f'{sys.executable} -c "{code}" >&-'], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("evaluate model=nope data.root=nowhere", "nope: no model folder"),
        ("sweep model=nope data.root=nowhere", "nope: no model folder"),
        ("train experiment=autoencoder_tiny run_dir=setup.cfg", "setup.cfg: is a file"),
        ("train experiment=autoencoder_tiny seed=-1", "seed=-1"),
        ("train experiment=diffusion_tiny autoencoder=nope", "autoencoder=nope: no such run folder"),
    ],
)
def test_what_needs_no_torch_is_refused_without_it(command: str, told: str) -> None:
    code = f"""
import contextlib, io, sys
from experiments.cli import main
with contextlib.redirect_stderr(io.StringIO()) as said:
    assert main({command.split()}) == 2
print({told!r} in said.getvalue(), "torch" in sys.modules, "lightning" in sys.modules)
"""
    assert run_python(code).split() == ["True", "False", "False"]


@pytest.mark.parametrize("line", ["", "unknown", "generate --no-such-flag", "train --no-such-flag"])
def test_usage_errors_name_the_help(line: str, refused) -> None:
    assert refused(line.split(), "--help`").startswith("ifmdm: error: ")


def test_each_end_has_its_status(monkeypatch: pytest.MonkeyPatch, refused) -> None:
    def run(args: argparse.Namespace) -> int:
        raise ends.pop()

    fake_command(monkeypatch, run)
    ends = [ZeroDivisionError(), KeyboardInterrupt(), UserError("face.png: no face\nwas found")]
    assert refused(["fake"]) == "ifmdm: error: face.png: no face was found\n"
    assert cli.main(["fake"]) == 130
    with pytest.raises(ZeroDivisionError):  # a bug keeps its traceback
        cli.main(["fake"])


def test_a_command_that_is_told_to_end_leaves_no_half_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[str] = []

    def run(args: argparse.Namespace) -> int:
        with whole_output(tmp_path / "a.mp4") as temporary:
            temporary.write_bytes(b"half")
            seen.extend(path.name for path in tmp_path.iterdir())
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL  # it would end the tests
            os.kill(os.getpid(), signal.SIGTERM)
        return 0

    fake_command(monkeypatch, run)
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(["fake"]) == 143
    assert len(seen) == 1
    assert not any(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) is before


def test_overrides_may_stand_around_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[argparse.Namespace] = []
    fake_command(monkeypatch, lambda args: seen.append(args) or 0, overrides=True)
    assert cli.main(["fake", "a=1", "--flag", "+b.c=-2", "~d"]) == 0
    assert seen[0].overrides == ["a=1", "+b.c=-2", "~d"]
    assert seen[0].flag


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "--threads", "0"], "whole number"),
        (["train"], "experiment=NAME"),
        (["train", "experiment=nothing"], "experiment/nothing"),
        (["train", "experiment"], "'experiment' says no value; write experiment=VALUE"),
        (["evaluate", "model", "synthetic-128"], "'model' says no value; write model=VALUE"),
        (["train", "experiment=autoencoder_tiny", "no.such.key=1"], "no key 'no.such.key'"),
        (["train", "experiment=autoencoder_tiny", "trainer.max_step=1"], "did you mean trainer.max_steps?"),
        (["train", "experimnt=autoencoder_tiny"], "no key 'experimnt'; did you mean experiment?"),
        (["evaluate", "model=synthetic-128", "clip=2"], "no key 'clip'; did you mean clips?"),
        (["train", "experiment=autoencoder_tiny", "data.size=[1"], "'[1'"),
        (["train", "experiment=autoencoder_tiny", "data.size=${nothing}"], "nothing"),
        (["train", "experiment=diffusion_tiny"], "autoencoder=PATH"),
        (["train", "experiment=autoencoder_tiny", "model.network.size=100"], "data.size is 64"),
        (["train", "experiment=autoencoder_tiny", "data.size=100"], "power of two"),
        (["train", "experiment=autoencoder_tiny", "data.size=128"], "channels lack the scales [128]"),
        (["train", "experiment=autoencoder_tiny", "+model.network.no_such_key=1"], "no_such_key"),
        (["train", "experiment=autoencoder_tiny", "+model.no_such_key=1"], "no_such_key"),
        (["train", "experiment=autoencoder_tiny", "trainer.accelerator=abc"], "accelerator"),
        (["train", "-m", "experiment=nothing", "seed=0,1"], "experiment/nothing"),
        *(
            (["train", "experiment=autoencoder_tiny", word], f"config: {word.lstrip('+')}: use a ")
            for word in WRONG_NUMBERS
        ),
    ],
)
def test_config_errors_are_one_line(
    words: list[str], told: str, refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told in refused(words)
    assert not list(tmp_path.rglob("*.*"))  # refused before any data or run folder is made


@pytest.mark.parametrize("command", ["evaluate", "sweep", "train"])
def test_a_file_where_results_should_go_is_refused_first(command: str, refused, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("something")
    key = "run_dir" if command == "train" else "output"
    words = ["experiment=autoencoder_tiny", f"data.root={tmp_path / 'data'}"]
    words += [] if command == "train" else ["model=synthetic-128"]
    refused([command, *words, f"{key}={tmp_path / 'file'}"], "is a file, expected a folder")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
