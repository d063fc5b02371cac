"""``ifmdm evaluate``: its words and flags, and which form they mean; what judges is loaded once they make sense."""

import argparse
from pathlib import Path
from typing import Any

from datamodules.clips.manifest import MANIFEST_NAME
from datamodules.errors import UserError
from datamodules.files import require_folder
from experiments.results import require_results_folder
from metrics.protocol import JUDGE_FILE, SHORTEST, SYNTHETIC, protocol_settings

ALSO_OVERRIDES = ("method", "output", "max_frames", "model", "split", "judge")
"""Flags that are overrides of the same name where a model is evaluated."""
SELFTEST_FLAGS = ("selftest", "reference", "output", "size", "max_frames", "split")
"""The flags that the self-test has a use for."""
MOST_NAME = 100
"""Letters of a method's name, at most."""
USUAL = {
    "videos": None,
    "reference": None,
    "method": None,
    "output": None,
    "protocol": "talking-head-v1",
    "task": "generation",
    "crop": "as given",
    "size": None,
    "max_frames": None,
    "model": None,
    "split": "test",
    "judge": "regressor",
    "seeds": False,
    "selftest": False,
}
"""The flags, and what they are where they are not given."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words of ``ifmdm evaluate``."""
    parser.description = (
        "Evaluate a trained model: model=DIR data.root=DIR and further Hydra overrides of configs/evaluate.yaml. "
        "Or anyone's videos: --videos DIR --reference DIR --method NAME."
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="model=DIR data.root=DIR split=test clips=8 ..."
    )
    group = parser.add_argument_group("anyone's videos", "judged without a model, matched by file stem")
    group.add_argument("--videos", type=Path, metavar="DIR", help="the method's videos")
    group.add_argument("--reference", type=Path, metavar="DIR", help="real videos, or a prepared folder")
    group.add_argument("--method", metavar="NAME", help="name in tables")
    group.add_argument(
        "--output", type=Path, metavar="DIR", help="where results.json goes; default results/NAME"
    )
    group.add_argument("--protocol", metavar="NAME", help="talking-head-v1 (default) or synthetic-v1")
    group.add_argument(
        "--task",
        choices=("generation", "reconstruction"),
        help="of the videos; default generation",
    )
    group.add_argument(
        "--crop", choices=("as given", "face"), help="face: cut both to the face; default: as given"
    )
    group.add_argument(
        "--size", type=int, metavar="S", help="shorter side in pixels; another size is another hash"
    )
    group.add_argument(
        "--max-frames", type=int, metavar="N", help="of each clip; another number is another hash"
    )
    group.add_argument(
        "--model",
        metavar="NAME",
        help="model folder or name whose autoencoder makes a row of the real motion",
    )
    group.add_argument("--split", help="of a prepared reference; default test")
    group.add_argument(
        "--judge",
        metavar="DIR",
        help="of motion for synthetic-v1: folder of a fitted one; default: the reference's own, fitted if need be",
    )
    group.add_argument("--seeds", action="store_true", help="DIR has one subfolder for each sampling seed")
    group.add_argument(
        "--selftest", action="store_true", help="corrupt real clips: do the measures answer in order?"
    )
    parser.set_defaults(**USUAL)


def given_flags(args: argparse.Namespace) -> list[str]:
    """Which flags of `add_arguments` are not what they usually are."""
    return [flag for flag, usual in USUAL.items() if getattr(args, flag) != usual]


def given_numbers(args: argparse.Namespace) -> dict[str, int]:
    """``size`` and ``max_frames``, as far as they are given.

    Raises:
        UserError: One is too small or too large.
    """
    found = {}
    for flag, key, least, most in (
        ("--size", "size", 64, 4096),
        ("--max-frames", "max_frames", SHORTEST, None),
    ):
        value = getattr(args, key)
        if value is not None:
            if value < least:
                raise UserError(f"{flag} {value}: use {least} or more")
            if most is not None and value > most:
                raise UserError(f"{flag} {value}: use {most} or less")
            found[key] = value
    return found


def check_method(name: object) -> str:
    """A method's name, which also names a folder and a line in tables; a whole number, as YAML reads ``2024``, is one too.

    Raises:
        UserError: It is no plain file name.
    """
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name)
    if (
        not isinstance(name, str)
        or not 0 < len(name) <= MOST_NAME
        or name.startswith(".")
        or not name.isprintable()
        or name != name.strip()
    ):
        raise UserError(f"method '{str(name)[:40]}': use 1 to {MOST_NAME} letters, the first no dot")
    if "/" in name or "\\" in name:
        raise UserError(f"method '{name}': use a name without / and \\")
    return name


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Settings of the protocol that the flags name.

    Raises:
        UserError: No such protocol, or a number that makes no sense.
    """
    return protocol_settings(args.protocol, task=args.task, crop=args.crop, **given_numbers(args))


def check_videos(args: argparse.Namespace) -> tuple[dict[str, Any], Path]:
    """Settings of the protocol, and the folder for results, that the flags for videos mean.

    Raises:
        UserError: A flag is missing or makes no sense, or results can't be written.
    """
    absent = [flag for flag in ("videos", "reference", "method") if getattr(args, flag) is None]
    if absent:
        raise UserError(f"to judge videos give --{' and --'.join(absent)} too")
    settings = settings_of(args)
    if args.judge != USUAL["judge"] and args.protocol != SYNTHETIC:
        raise UserError(
            f"--judge {args.judge}: {args.protocol} has its own; leave it out or give --protocol {SYNTHETIC}"
        )
    check_method(args.method)
    require_folder(args.videos, "videos")
    require_folder(args.reference, "real clips")
    if args.protocol == SYNTHETIC:
        _check_judge(args.judge, args.reference)
    return settings, require_results_folder(args.output or Path("results") / args.method)


def _check_judge(judge: str, reference: Path) -> None:
    """Refuse a judge of drawn heads that is not there, or that nothing is there to fit on.

    Raises:
        UserError: As said.
    """
    if judge != USUAL["judge"]:
        if not (Path(judge) / JUDGE_FILE).is_file():
            raise UserError(
                f"--judge {judge}: holds no fitted judge ({JUDGE_FILE}); name the folder 'judge' of a dataset"
            )
    elif not (reference / MANIFEST_NAME).is_file():
        raise UserError(
            f"{reference}: holds no {MANIFEST_NAME} as prepared drawn heads do, which --protocol {SYNTHETIC} is for; leave "
            "it out for real videos"
        )


def check_selftest(args: argparse.Namespace) -> None:
    """Refuse flags that the self-test has no use for.

    Raises:
        UserError: There are some, or there is no reference folder.
    """
    foreign = [flag for flag in given_flags(args) if flag not in SELFTEST_FLAGS]
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


def run(args: argparse.Namespace) -> int:
    """Evaluate as the command line says.

    Raises:
        UserError: Flags of the two forms are mixed, or as the chosen form says.
    """
    given = given_flags(args)
    if given and args.overrides:
        flag, hint = given[0].replace("_", "-"), ""
        if given[0] in ALSO_OVERRIDES:
            hint = f", for a model {given[0]}=..."
        raise UserError(
            f"--{flag} judges videos and takes no '{args.overrides[0]}'; give one form only{hint}"
        )
    if args.selftest:
        check_selftest(args)  # before half a minute of imports, as below
        from experiments import selftest

        return selftest.run(args)
    if given:
        check_videos(args)
        from experiments import evaluate_videos

        return evaluate_videos.run(args)
    from experiments.evaluate import evaluate_main

    return evaluate_main(args.overrides)
