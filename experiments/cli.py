"""The command line ``ifmdm``: finds the sub-command, loads its module and turns wrong input into one line.

Exit status: 0 the thing asked for was done; 2 wrong input (one line on standard error); 130 interrupted; 141 nobody reads the
output any more; 1 a bug, with its traceback.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from experiments.startup import (
    THREADS_FLAG,
    THREADS_HELP,
    StartupError,
    check_packages,
    set_threads,
    set_up_logging,
)
from experiments.version import __version__


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other refusal; how it is done right is in ``--help``."""

    def error(self, message: str) -> NoReturn:
        """Refuse the words: one line, status 2."""
        _refuse(f"{message}; see `{self.prog} --help`")
        raise SystemExit(2)


class Command(NamedTuple):
    """A sub-command: the module with ``add_arguments(parser)`` and ``run(args) -> int``, and what it does.

    Attributes:
        module: imported only when the command is chosen, so that ``--help`` stays quick.
        help: one line.
        overrides: takes Hydra overrides, which may stand before, between and after its flags.
    """

    module: str
    help: str
    overrides: bool = False


COMMANDS = {
    "demo": Command(
        "experiments.demo", "the whole experiment in miniature on synthetic data, with a report and videos"
    ),
    "generate": Command("experiments.generate", "portrait + speech -> talking-head video"),
    "reenact": Command(
        "experiments.reenact", "portrait + driving video -> video of the portrait in that motion"
    ),
    "prepare": Command(
        "experiments.prepare", "make clips and a manifest of synthetic heads or recorded videos"
    ),
    "train": Command(
        "experiments.train", "train a stage: experiment=NAME [Hydra overrides] [-m]", overrides=True
    ),
    "encode": Command(
        "experiments.encode",
        "make the latents of a dataset: autoencoder=RUN data=NAME data.root=DIR [workers=N] [shard=I/N]",
        overrides=True,
    ),
    "evaluate": Command(
        "experiments.evaluate",
        "measure a trained model on held-out identities, or anyone's videos",
        overrides=True,
    ),
    "sweep": Command(
        "experiments.sweep",
        "measure quality over motion intensity: sweep=NAME [overrides]",
        overrides=True,
    ),
    "report": Command("experiments.report.command", "one self-contained HTML page of a run or sweep"),
    "assets": Command("experiments.assets", "list, fetch or verify the public model files"),
    "package": Command("experiments.package", "make a model folder of three trained stages"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``ifmdm`` with the given words (default: the process's) and return the exit status."""
    try:
        check_packages()
        words = set_threads(sys.argv[1:] if argv is None else argv)
    except StartupError as error:
        return _refuse(error)
    try:
        status = _dispatch(words)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read the output has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except SystemExit as stop:  # argparse: 0 after --help, 2 after a usage error
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt:
        print("ifmdm: interrupted", file=sys.stderr)
        return 130


def _dispatch(words: list[str]) -> int:
    if not words or words[0] not in COMMANDS:
        return _top_parser(words)
    set_up_logging()
    from datamodules.errors import UserError

    try:
        return run_command(words)
    except UserError as error:
        return _refuse(error)
    except PermissionError as error:
        return _refuse(f"{error.filename}: may not be read or written; check its permissions")


def run_command(words: Sequence[str]) -> int:
    """Run one sub-command with its words, in this process, and return its status.

    Raises:
        UserError: Wrong input.
        SystemExit: ``--help``, or words that the command does not know.
    """
    name, *rest = words
    command = COMMANDS[name]
    parser = Parser(prog=f"ifmdm {name}", description=_sentence(command.help))
    parser.add_argument(THREADS_FLAG, metavar="N", help=THREADS_HELP)  # for --help: set_threads has taken it
    module = importlib.import_module(command.module)
    module.add_arguments(parser)
    parse = parser.parse_intermixed_args if command.overrides else parser.parse_args
    return int(module.run(parse(rest)) or 0)


def _top_parser(words: list[str]) -> int:
    """Answer ``ifmdm``, ``--help``, ``--version`` and unknown commands without loading any of them."""
    parser = Parser(prog="ifmdm", description="IF-MDM: talking-head videos from a portrait and speech.")
    parser.add_argument(THREADS_FLAG, metavar="N", help=f"{THREADS_HELP}; may stand anywhere")
    parser.add_argument("--version", action="version", version=f"ifmdm {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.help, add_help=False)
    parser.parse_args(words)
    return 0


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _refuse(error: Exception | str) -> int:
    """Say one line on standard error: a message never runs over several."""
    print("ifmdm: error: " + " ".join(str(error).split()), file=sys.stderr)
    return 2
