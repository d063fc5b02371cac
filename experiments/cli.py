"""The command line ``ifmdm``: finds the sub-command, loads its module and turns wrong input into one line.

Exit status: 0 the thing asked for was done; 2 wrong input (one line on standard error); 130 interrupted; 143 told to
end (SIGTERM); 141 nobody reads the output any more; 1 a bug, with its traceback.
"""

import argparse
import contextlib
import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from experiments.startup import (
    PACKAGES,
    ROOT,
    THREADS_FLAG,
    THREADS_HELP,
    StartupError,
    check_packages,
    set_threads,
    set_up_logging,
)
from experiments.version import __version__

log = logging.getLogger(__name__)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other refusal; how it is done right is in ``--help``."""

    def error(self, message: str) -> NoReturn:
        """Refuse the words: one line, status 2."""
        _refuse(f"{message}; see `{self.prog} --help`")
        raise SystemExit(2)


COMMANDS = {
    "demo": "the whole experiment in miniature on synthetic data, with a report and videos",
    "generate": "portrait + speech -> talking-head video",
    "reenact": "portrait + driving video -> video of the portrait in that motion",
    "prepare": "make clips and a manifest of synthetic heads or recorded videos",
    "train": "train a stage: experiment=NAME [Hydra overrides] [-m]",
    "encode": "make the latents of a dataset: autoencoder=RUN data=NAME data.root=DIR [workers=N] [shard=I/N]",
    "evaluate": "measure a trained model on held-out identities, or anyone's videos",
    "sweep": "measure quality over motion intensity: sweep=NAME [overrides]",
    "ablate": "train models that differ in one part and compare them: ablation=A,B base=NAME",
    "leaderboard": "rank methods by results of evaluations: Markdown, CSV or one HTML page",
    "report": "one self-contained HTML page of a run or sweep",
    "assets": "list, fetch or verify the public model files",
    "package": "make a model folder of three trained stages",
}
"""What each sub-command does. Its module has ``add_arguments(parser)`` and ``run(args) -> int``."""
MODULES = {name: f"experiments.{name}" for name in COMMANDS} | {
    "report": "experiments.report.command",
    "ablate": "experiments.ablation.command",
    "sweep": "experiments.sweep.command",
}
"""Imported only when the command is chosen, so that ``--help`` stays quick."""
OVERRIDING = ("train", "encode", "evaluate", "sweep")
"""Commands with Hydra overrides, which may stand before, between and after their flags."""
ENDING_BY_THEMSELVES = ("train", "ablate")
"""Commands that leave SIGTERM as it is: a training saves itself, and a study's go on without it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``ifmdm`` with the given words (default: the process's) and return the exit status."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed, as by `>&-`: else the next file opened would take its place
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - it stays open
    try:
        check_packages()
        words = set_threads(sys.argv[1:] if argv is None else argv)
    except StartupError as error:
        return _refuse(error)
    try:
        with _clean_end(words):
            status = _dispatch(words)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read the output has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except SystemExit as stop:  # argparse: 0 after --help, 2 after a usage error; see `_clean_end`
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt:
        print("ifmdm: interrupted", file=sys.stderr)
        return 130


@contextlib.contextmanager
def _clean_end(words: Sequence[str]) -> Iterator[None]:
    """Let SIGTERM raise SystemExit, so that nothing half-written is left; the second one ends the process at once."""
    free = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    main_thread = threading.current_thread() is threading.main_thread()
    if not free or not main_thread or (words and words[0] in ENDING_BY_THEMSELVES):
        yield
        return
    signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end(number: int, _: object) -> NoReturn:
    import multiprocessing

    signal.signal(number, signal.SIG_DFL)
    for child in multiprocessing.active_children():  # else what they work on would be waited for
        child.terminate()
    raise SystemExit(128 + number)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] not in COMMANDS:
        return _top_parser(words)
    set_up_logging()
    from datamodules.errors import UserError
    from datamodules.files import disk_problem

    try:
        return run_command(words)
    except UserError as error:
        return _refuse(error)
    except Exception as error:
        if (told := _told_by_system(error, disk_problem(error))) is None:
            raise
        log.debug("where it came from:", exc_info=error)
        return _refuse(told)


def _told_by_system(error: Exception, problem: str | None) -> str | None:
    """What to say of a file that the system refused, None for a bug: a file of these packages that is not there is one."""
    name = getattr(error, "filename", None)
    if problem is not None:
        return f"{name or 'an output'}: can't be written ({problem})"
    if name is None or any(Path(os.fsdecode(name)).is_relative_to(ROOT / package) for package in PACKAGES):
        return None
    if isinstance(error, PermissionError):
        return f"{name}: may not be read or written; check its permissions"
    return f"{name}: is not there, or not any more" if isinstance(error, FileNotFoundError) else None


def run_command(words: Sequence[str]) -> int:
    """Run one sub-command with its words, in this process, and return its status.

    Raises:
        UserError: Wrong input.
        SystemExit: ``--help``, or words that the command does not know.
    """
    name, *rest = words
    help = COMMANDS[name]
    parser = Parser(prog=f"ifmdm {name}", description=f"{help[0].upper()}{help[1:]}.")
    parser.add_argument(THREADS_FLAG, metavar="N", help=THREADS_HELP)  # for --help: set_threads has taken it
    module = importlib.import_module(MODULES[name])
    module.add_arguments(parser)
    parse = parser.parse_intermixed_args if name in OVERRIDING else parser.parse_args
    return module.run(parse(rest))


def _top_parser(words: list[str]) -> int:
    """Answer ``ifmdm``, ``--help``, ``--version`` and unknown commands without loading any of them."""
    parser = Parser(prog="ifmdm", description="IF-MDM: talking-head videos from a portrait and speech.")
    parser.add_argument(THREADS_FLAG, metavar="N", help=f"{THREADS_HELP}; may stand anywhere")
    parser.add_argument("--version", action="version", version=f"ifmdm {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, help in COMMANDS.items():
        commands.add_parser(name, help=help, add_help=False)
    parser.parse_args(words)
    return 0


def _refuse(error: Exception | str) -> int:
    """Say one line on standard error: a message never runs over several, nor tells where another process raised it."""
    told = str(error).rpartition("datamodules.errors.UserError: ")[2]
    print("ifmdm: error: " + " ".join(told.split()), file=sys.stderr)
    return 2
