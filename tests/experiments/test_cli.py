"""The command line: what it lists, what it refuses and with which status."""

import argparse
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from datamodules.errors import UserError
from experiments import cli
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
    monkeypatch.setitem(cli.COMMANDS, "fake", cli.Command("fake_command", "does nothing", overrides))


def test_help_lists_every_command_and_is_quick() -> None:
    started = time.process_time()
    code = "import sys; from experiments.cli import main; s = main(['--help']); print('torch' in sys.modules); sys.exit(s)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "False"  # nothing heavy was imported
    for name in cli.COMMANDS:
        assert name in done.stdout
    assert time.process_time() - started < 1


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"ifmdm {__version__}"


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    assert f"usage: ifmdm {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [[], ["unknown"], ["generate", "--no-such-flag"], ["train", "--no-such-flag"]]
)
def test_usage_errors_end_in_status_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    assert "ifmdm" in capsys.readouterr().err


def test_user_error_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: argparse.Namespace) -> int:
        raise UserError("face.png: no face\nwas found")

    fake_command(monkeypatch, run)
    assert cli.main(["fake"]) == 2
    assert capsys.readouterr().err == "ifmdm: error: face.png: no face was found\n"


def test_interrupt_is_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(args: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    fake_command(monkeypatch, run)
    assert cli.main(["fake"]) == 130


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(args: argparse.Namespace) -> int:
        raise ZeroDivisionError

    fake_command(monkeypatch, run)
    with pytest.raises(ZeroDivisionError):
        cli.main(["fake"])


def test_overrides_may_stand_around_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[argparse.Namespace] = []
    fake_command(monkeypatch, lambda args: seen.append(args) or 0, overrides=True)
    assert cli.main(["fake", "a=1", "--flag", "+b.c=-2", "~d"]) == 0
    assert seen[0].overrides == ["a=1", "+b.c=-2", "~d"]
    assert seen[0].flag


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train"], "experiment=NAME"),
        (["train", "experiment=nothing"], "experiment/nothing"),
        (["train", "experiment"], "missing EQUAL"),
        (["train", "experiment=autoencoder_tiny", "no.such.key=1"], "no.such.key"),
        (["train", "experiment=autoencoder_tiny", "data.size=[1"], "'[1'"),
        (["train", "experiment=autoencoder_tiny", "data.size=${nothing}"], "nothing"),
        (["train", "experiment=diffusion_tiny"], "autoencoder=PATH"),
        (["train", "-m", "experiment=nothing", "seed=0,1"], "experiment/nothing"),
    ],
)
def test_config_errors_are_one_line(
    words: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith("ifmdm: error: ")
    assert err.count("\n") == 1
    assert told in err
