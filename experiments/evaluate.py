"""``ifmdm evaluate``: measures a model on clips it never saw, or anyone's videos, or the measures themselves.

What renders and judges is imported once the words and flags make sense. Motion is measured on rendered frames by a judge,
never read from motion vectors. Rows beside the method's: real video, real video through the codec, real motion through an
autoencoder, the still source frame, for a model its generation from another voice's speech (``swapped``); ``shuffled`` is
the method's own lips against that other speech. Whatever can't be judged is listed with its reason.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.clips.manifest import MANIFEST_NAME
from datamodules.errors import UserError
from datamodules.files import require_folder
from experiments.config import require_model
from experiments.results import (
    GALLERY,
    has_values,
    log_results,
    machine_record,
    plain,
    replace_results,
    require_judged,
    require_results_folder,
)
from metrics.evaluation.protocol_names import SYNTHETIC, TALKING_HEAD, TASKS, ReadingSettings, check_protocol

if TYPE_CHECKING:
    from experiments.evaluation_setup import EvaluatedModel
    from metrics.evaluation.judges import Judges, Progress
    from metrics.evaluation.protocol import Protocol

ALSO_OVERRIDES = ("method", "output", "max_frames", "model", "split", "judge")
"""Flags that are overrides of the same name where a model is evaluated."""
SELFTEST_FLAGS = ("selftest", "reference", "output", "size", "max_frames", "split")
"""The flags that the self-test has a use for."""
MOST_NAME = 100
"""Letters of a method's name, at most."""
DEFAULTS = {
    "videos": None, "reference": None, "method": None, "output": None, "protocol": TALKING_HEAD, "task": "generation",
    "crop": "as given", "size": None, "max_frames": None, "model": None, "split": "test", "judge": "regressor",
    "seeds": False, "selftest": False,
}  # fmt: skip
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
    flag = group.add_argument
    flag("--videos", type=Path, metavar="DIR", help="the method's videos")
    flag("--reference", type=Path, metavar="DIR", help="real videos, or a prepared folder")
    flag("--method", metavar="NAME", help="name in tables")
    flag("--output", type=Path, metavar="DIR", help="where results.json goes; default results/NAME")
    flag("--protocol", metavar="NAME", help=f"{TALKING_HEAD} (default) or {SYNTHETIC}")
    flag("--task", choices=TASKS, help="of the videos; default generation")
    flag("--crop", choices=("as given", "face"), help="face: cut both to the face; default: as given")
    flag("--size", type=int, metavar="S", help="shorter side in pixels; another size is another hash")
    flag("--max-frames", type=int, metavar="N", help="of each clip; another number is another hash")
    row = "model folder or name whose autoencoder makes a row of the real motion"
    flag("--model", metavar="NAME", help=row)
    flag("--split", help="of a prepared reference; default test")
    motion = "folder of a fitted one; default: the reference's own, fitted if need be"
    flag("--judge", metavar="DIR", help=f"of motion for {SYNTHETIC}: {motion}")
    flag("--seeds", action="store_true", help="DIR has one subfolder for each sampling seed")
    flag("--selftest", action="store_true", help="corrupt real clips: do the measures answer in order?")
    parser.set_defaults(**DEFAULTS)


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
    absent = [flag for flag in ("videos", "reference", "method") if getattr(args, flag) is None]
    if absent:
        raise UserError(f"to judge videos give --{' and --'.join(absent)} too")
    given_numbers(args)
    check_protocol(args.protocol, args.task, args.crop)
    drawn = args.protocol == SYNTHETIC
    own = args.judge != DEFAULTS["judge"]
    if own and not drawn:
        raise UserError(
            f"--judge {args.judge}: {args.protocol} has its own; leave it out or give --protocol {SYNTHETIC}"
        )
    check_method(args.method)
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
    return require_results_folder(args.output or Path("results") / args.method)


def _check_selftest(args: argparse.Namespace, given: Sequence[str]) -> None:
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


def run(args: argparse.Namespace) -> int:
    """Evaluate as the command line says.

    Raises:
        UserError: Flags of the two forms are mixed, or as the chosen form says.
    """
    given = [flag for flag, usual in DEFAULTS.items() if getattr(args, flag) != usual]
    if given and args.overrides:
        flag = given[0].replace("_", "-")
        hint = f", for a model {given[0]}=..." if given[0] in ALSO_OVERRIDES else ""
        raise UserError(
            f"--{flag} judges videos and takes no '{args.overrides[0]}'; give one form only{hint}"
        )
    if args.selftest:
        _check_selftest(args, given)
        from experiments import selftest

        return selftest.run(args)
    if given:
        return _run_videos(args)
    return evaluate_main(args.overrides)


def _run_videos(args: argparse.Namespace) -> int:
    """Judge the videos that the flags name and write results.json, nothing if not one clip could be judged."""
    output = check_videos(args)
    from experiments.evaluation_setup import log_progress
    from lightning_modules.generation.talking_head import TalkingHead
    from metrics.evaluation.protocol import get_protocol

    protocol = get_protocol(args.protocol, args.task, crop=args.crop, **given_numbers(args))
    model = TalkingHead.from_pretrained(args.model) if args.model else None
    asked = {key: getattr(args, key) for key in ("videos", "reference", "method", "seeds", "split", "judge")}
    results = evaluate_videos(**asked, protocol=protocol, progress=log_progress, model=model)
    write_videos(results, output, str(args.videos))
    return 0


def write_videos(results: dict[str, Any], output: Path, videos: str) -> None:
    """Write the results of judged videos.

    Raises:
        UserError: Not one clip could be judged, or nothing is known of the method.
    """
    judged = len(results["clips"]) if has_values(results["metrics"]) else 0
    require_judged(judged, results["missing"], videos)
    log_results(replace_results(output, results), results)


def evaluate_videos(
    videos: Path,
    reference: Path,
    method: str,
    protocol: "Protocol",
    seeds: bool = False,
    split: str = "test",
    judges: "Judges | None" = None,
    progress: "Progress | None" = None,
    model: Any = None,
    judge: str = "regressor",
) -> dict[str, Any]:
    """The content of results.json of a folder of videos against real clips of the same stems, see `match_videos`.

    ``judges`` are asked, else those that the protocol names, as far as they are there; ``judge`` is that of motion of drawn
    faces, see `load_motion_judge`. The autoencoder of ``model``, a TalkingHead, gives the row of that name; without it
    there is none. ``method`` is the name that the result carries.

    Raises:
        UserError: A folder is missing or empty, no stem matches, or the judge of motion is not there.
    """
    from experiments.model_clips import autoencoder_row
    from lightning_modules.checkpoints import weights_hash
    from metrics.evaluation.clip_results import ROW_FAMILIES
    from metrics.evaluation.clips import entry, match_videos
    from metrics.evaluation.judges import load_judges, load_motion_judge
    from metrics.evaluation.loading import rendered_clips
    from metrics.evaluation.registry import measures_of
    from metrics.evaluation.run import evaluate

    started = time.perf_counter()
    data, alone = match_videos(videos, reference, seeds, split)
    if judges is None:
        name = judge if protocol.name == SYNTHETIC else "landmarks"
        looks = load_motion_judge(name, reference, progress=progress, size=protocol.reading.size)
        slots = {slot for one in measures_of(protocol.task) for slot in one.judges}
        judges = load_judges(slots, protocol, looks)
    clips = rendered_clips(data, protocol.reading, None if model is None else autoencoder_row(model))
    results = evaluate(clips, data, protocol, judges, ROW_FAMILIES[protocol.task], progress)
    if model is None:
        alone.insert(0, entry("*", "row autoencoder", "no model was named; give --model DIR or NAME"))
    results["missing"] += alone
    facts = {
        **machine_record(),
        "videos": videos,
        "reference": reference,
        "split": split if (reference / MANIFEST_NAME).is_file() else None,
        "takes": len(data.judged[0].takes),
        "judge": judges.facts,
        "autoencoder": None if model is None else weights_hash(model),
        "seconds": round(time.perf_counter() - started, 1),
    }
    return with_run(results, method, facts, judges)


def evaluate_main(overrides: Sequence[str], **parts: Any) -> int:
    """Compose, evaluate and write results.json beside the gallery.

    ``parts`` say how model and judge are loaded, see `set_up_config`.

    Raises:
        UserError: Wrong overrides, model or data, or not one clip could be judged; nothing is written then.
    """
    require_model(overrides)
    from experiments.evaluation_setup import PREPARE_AGAIN, compose_evaluation, set_up_config

    config = compose_evaluation(overrides, "evaluate")
    method, output = check_method(config["method"]), require_results_folder(config["output"])
    shown = config["gallery_clips"]
    # Pictures appear together with the numbers that belong to them.
    with tempfile.TemporaryDirectory() as scratch:
        gallery = Path(scratch) / GALLERY
        pictures = gallery if shown else None
        if config["autoencoder"]:
            from experiments.autoencoder_evaluation import evaluate_autoencoder

            results = evaluate_autoencoder(config, method, pictures, **parts)
        else:
            model = set_up_config(config, **parts)
            results = evaluate_model(model, method, gallery=pictures, gallery_clips=shown)
            results["run"]["model"]["name"] = Path(config["talking_head"]).name
        require_judged(len(results["clips"]), results["missing"], hint=PREPARE_AGAIN)
        results["run"]["facts"] = config["facts"]
        path = replace_results(output, results, gallery if gallery.is_dir() else None)
    log_results(path, results)
    return 0


def evaluate_model(
    evaluated: "EvaluatedModel",
    method: str = "ifmdm",
    judges: "Judges | None" = None,
    gallery: Path | None = None,
    gallery_clips: int = 4,
) -> dict[str, Any]:
    """The content of results.json of a model.

    Motion is measured by its judge, all else by ``judges``, else by those that the protocol names, as far as they are there.
    Contact sheets and videos of the first ``gallery_clips`` go to the folder ``gallery``; ``method`` is the name that the
    result carries.
    """
    from experiments.model_clips import model_rows, with_gallery
    from metrics.evaluation.clip_results import ROW_FAMILIES
    from metrics.evaluation.judges import load_judges
    from metrics.evaluation.registry import SLOTS
    from metrics.evaluation.run import evaluate

    started = time.perf_counter()
    judges = judges or load_judges(SLOTS, evaluated.protocol, evaluated.judge)
    clips = evaluated.clips(model_rows(evaluated.model, evaluated.seeds, evaluated.options))
    if gallery is not None:
        clips = with_gallery(clips, gallery, set(evaluated.chosen[:gallery_clips]))
    families = ROW_FAMILIES["model"]
    results = evaluate(clips, evaluated.data, evaluated.protocol, judges, families, evaluated.progress)
    return with_run(results, method, {**evaluated.record(started), "split": evaluated.split}, judges)


def with_run(results: dict[str, Any], method: str, facts: dict[str, Any], judges: "Judges") -> dict[str, Any]:
    """Results as results.json has them, with the facts of the evaluation, its identities and its judges."""
    identities = len({one["identity"] for one in results["clips"]})
    more = {"identities": identities, "judges": judges.weights()}
    return plain({"method": method, "run": {**facts, **more}, **results})
