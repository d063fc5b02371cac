"""The flags of ``ifmdm evaluate`` that judge videos: what they are by default, and what makes no sense."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from datamodules.clips.manifest import MANIFEST_NAME
from datamodules.errors import UserError
from datamodules.files import require_folder
from experiments.results import require_results_folder
from metrics.evaluation.protocol_names import SYNTHETIC, TALKING_HEAD, ReadingSettings, check_protocol

FREE_FLAGS = ("videos", "sources", "speakers", "method", "output", "crop", "size", "max_frames", "check")
"""The flags that have a use where there are no real videos."""
SELFTEST_FLAGS = ("selftest", "reference", "output", "size", "max_frames", "split")
"""The flags that the self-test has a use for."""
MOST_NAME = 100
"""Letters of a method's name, at most."""
DEFAULTS = {
    "videos": None, "reference": None, "method": None, "output": None, "protocol": TALKING_HEAD, "task": "generation",
    "crop": "as given", "size": None, "max_frames": None, "model": None, "split": "test", "judge": "regressor",
    "seeds": False, "selftest": False, "sources": None, "speakers": None, "check": False,
}  # fmt: skip
"""The flags, and what they are where they are not given."""


def given_flags(args: argparse.Namespace) -> list[str]:
    """The flags that are not as usual, by the names of their attributes."""
    return [flag for flag, usual in DEFAULTS.items() if getattr(args, flag) != usual]


def given_numbers(args: argparse.Namespace) -> dict[str, int]:
    """``size`` and ``max_frames``, as far as they are given.

    Raises:
        UserError: One is too small or too large.
    """
    limits = {"size": (64, 4096), "max_frames": (ReadingSettings().shortest, math.inf)}
    found = {key: getattr(args, key) for key in limits if getattr(args, key) is not None}
    for key, value in found.items():
        least, most = limits[key]
        if not least <= value <= most:
            bound = f"{least} or more" if value < least else f"{most} or less"
            raise UserError(f"--{key.replace('_', '-')} {value}: use {bound}")
    return found


def check_method(name: object) -> str:
    """A method's name, which also names a folder and a line in tables; a whole number, as YAML reads ``2024``, is one too.

    Raises:
        UserError: It is no plain file name.
    """
    name = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
    fits = (
        isinstance(name, str) and 0 < len(name) <= MOST_NAME and name.isprintable() and name == name.strip()
    )
    if not isinstance(name, str) or not fits or name.startswith("."):
        raise UserError(f"method '{str(name)[:40]}': use 1 to {MOST_NAME} letters, the first no dot")
    if "/" in name or "\\" in name:
        raise UserError(f"method '{name}': use a name without / and \\")
    return name


def check_videos(args: argparse.Namespace) -> Path:
    """The folder for results, if the flags for videos make sense.

    Raises:
        UserError: A flag is missing or makes no sense, or results can't be written.
    """
    if args.sources is not None:
        return _check_free(args)
    _require_flags(args, "videos", "reference", "method")
    if args.speakers is not None:
        require_folder(args.speakers, "real videos")
    check_protocol(args.protocol, args.task, args.crop)
    drawn = args.protocol == SYNTHETIC
    own = args.judge != DEFAULTS["judge"]
    if own and not drawn:
        raise UserError(
            f"--judge {args.judge}: {args.protocol} has its own; leave it out or give --protocol {SYNTHETIC}"
        )
    require_folder(args.videos, "videos")
    require_folder(args.reference, "real clips")
    if drawn and own and not (Path(args.judge) / "judge.json").is_file():
        raise UserError(
            f"--judge {args.judge}: holds no fitted judge (judge.json); name the folder 'judge' of a dataset"
        )
    if drawn and not own and not (args.reference / MANIFEST_NAME).is_file():
        raise UserError(
            f"{args.reference}: holds no {MANIFEST_NAME} as prepared drawn heads do, which --protocol {SYNTHETIC} is for; "
            "leave it out for real videos"
        )
    return _output(args)


def _require_flags(args: argparse.Namespace, *flags: str) -> None:
    """Refuse to go on without some flags; to look at a folder takes no method."""
    absent = [flag for flag in flags if getattr(args, flag) is None and not (args.check and flag == "method")]
    if absent:
        raise UserError(f"to judge videos give --{' and --'.join(absent)} too")
    given_numbers(args)
    if not args.check:
        check_method(args.method)


def _output(args: argparse.Namespace) -> Path:
    if args.check:
        return Path()  # nothing is written
    return require_results_folder(args.output or Path("results") / args.method)


def _check_free(args: argparse.Namespace) -> Path:
    """As `check_videos`, without real videos."""
    _require_flags(args, "videos", "sources", "method")
    foreign = [flag for flag in given_flags(args) if flag not in FREE_FLAGS]
    if foreign:
        raise UserError(
            f"--sources stands for real videos, which --{' and --'.join(foreign)} would need; leave out one"
        )
    require_folder(args.videos, "videos")
    require_folder(args.sources, "portraits and speech")
    if args.speakers is not None:
        require_folder(args.speakers, "real videos")
    return _output(args)


def check_selftest(args: argparse.Namespace, given: Sequence[str]) -> None:
    """Refuse flags that the self-test has no use for, or to do without a reference folder."""
    foreign = [flag for flag in given if flag not in SELFTEST_FLAGS]
    if foreign:
        raise UserError(
            f"--selftest corrupts the clips of --reference itself; leave out --{' and --'.join(foreign)}"
        )
    if args.reference is None:
        raise UserError(
            "the self-test needs real clips: give --reference DIR, a folder of videos of two people"
        )
    require_folder(args.reference, "real clips")
    given_numbers(args)
