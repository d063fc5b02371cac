"""``ifmdm evaluate``: measures a model on clips it never saw, or anyone's videos, or the measures themselves.

What renders and judges is loaded once the words and flags make sense. Motion is measured on rendered frames by a judge,
never read from motion vectors. Rows beside the method's: real video, real video through the codec, real motion through an
autoencoder, the still source frame, for a model its generation from another voice's speech (``swapped``); ``shuffled`` is
the method's own lips against that other speech. Whatever can't be judged is listed with its reason.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datamodules.clips.manifest import MANIFEST_NAME
from datamodules.errors import UserError
from datamodules.files import require_folder
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
from metrics.evaluation.reading import SYNTHETIC, TALKING_HEAD, TASKS, ReadingSettings

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
    flag(
        "--model",
        metavar="NAME",
        help="model folder or name whose autoencoder makes a row of the real motion",
    )
    flag("--split", help="of a prepared reference; default test")
    motion = (
        f"of motion for {SYNTHETIC}: folder of a fitted one; default: the reference's own, fitted if need be"
    )
    flag("--judge", metavar="DIR", help=motion)
    flag("--seeds", action="store_true", help="DIR has one subfolder for each sampling seed")
    flag("--selftest", action="store_true", help="corrupt real clips: do the measures answer in order?")
    parser.set_defaults(**DEFAULTS)


def given_flags(args: argparse.Namespace) -> list[str]:
    """Which flags of `add_arguments` are not what they usually are."""
    return [flag for flag, usual in DEFAULTS.items() if getattr(args, flag) != usual]


def given_numbers(args: argparse.Namespace) -> dict[str, int]:
    """``size`` and ``max_frames``, as far as they are given.

    Raises:
        UserError: One is too small or too large.
    """
    limits = (("--size", "size", 64, 4096), ("--max-frames", "max_frames", ReadingSettings().shortest, None))
    found = {}
    for flag, key, least, most in limits:
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
    name = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
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


def check_videos(args: argparse.Namespace) -> Path:
    """The folder for results, if the flags for videos make sense.

    Raises:
        UserError: A flag is missing or makes no sense, or results can't be written.
    """
    absent = [flag for flag in ("videos", "reference", "method") if getattr(args, flag) is None]
    if absent:
        raise UserError(f"to judge videos give --{' and --'.join(absent)} too")
    given_numbers(args)
    drawn = args.protocol == SYNTHETIC
    if drawn and args.crop != DEFAULTS["crop"]:
        raise UserError(f"protocol {SYNTHETIC} judges whole frames, as they are drawn; leave out the crop")
    if args.protocol not in (SYNTHETIC, TALKING_HEAD):
        raise UserError(f"{args.protocol}: no such protocol; the names are {TALKING_HEAD}, {SYNTHETIC}")
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
        check_selftest(args)
        from experiments import selftest

        return selftest.run(args)
    if given:
        return _run_videos(args)
    return evaluate_main(args.overrides)


def evaluate_model(
    model: Any,
    root: Path,
    split: str = "test",
    judge: Any = None,
    clips: int | None = None,
    seeds: Sequence[int] = (0,),
    options: Any = None,
    progress: Callable[[int, int, str], None] | None = None,
    max_frames: int | None = None,
    gallery: Path | None = None,
    gallery_clips: int = 4,
    method: str = "ifmdm",
    judges: Any = None,
) -> dict[str, Any]:
    """Measure a model on the clips of a split.

    Args:
        model: TalkingHead.
        root: Dataset folder with manifest.
        split: ``test``, or another split.
        judge: Measures motion on frames; None: the regressor of the dataset, fitted if need be.
        clips: Number of clips, or all.
        seeds: Sampling seeds.
        options: GenerationOptions of the model, or its defaults.
        progress: Called with clips done, clips in all and a text.
        max_frames: Only so many frames of each clip, or all.
        gallery: Folder for contact sheets and videos, or None.
        gallery_clips: How many clips the gallery shows.
        method: Name that the result carries.
        judges: Those to ask; None: those that the protocol names, as far as they are there.

    Returns:
        The content of results.json.

    Raises:
        UserError: No manifest, no clip in the split, or options that the model can't follow.
    """
    from experiments import model_clips
    from lightning_modules.generation.talking_head import GenerationOptions
    from metrics.evaluation import evaluation
    from metrics.evaluation.judges import load_judges, load_motion_judge
    from metrics.evaluation.loading import rendered_clips
    from metrics.evaluation.loop import ROW_PLANS
    from metrics.evaluation.registry import SLOTS

    options, started, root = options or GenerationOptions(), time.perf_counter(), Path(root)
    model_clips.check_options(model, options, tuple(seeds))
    data, chosen = model_clips.choose_data(root, split, clips)
    judge = judge or load_motion_judge("regressor", root, progress=progress, size=model.size)
    protocol = model_clips.model_protocol(chosen, model.size, judge, max_frames)
    judges = judges or load_judges(SLOTS, protocol, judge)
    rendered = rendered_clips(data, protocol.reading, model_clips.model_rows(model, tuple(seeds), options))
    if gallery is not None:
        rendered = model_clips.with_gallery(rendered, gallery, {one.id for one in chosen[:gallery_clips]})
    results = evaluation.evaluate(rendered, data, protocol, judges, ROW_PLANS["model"], progress)
    run_facts = model_clips.run_record(model, options, judge, seeds, time.perf_counter() - started)
    identities = len({one["identity"] for one in results["clips"]})
    more = {"split": split, "identities": identities, "judges": judges.weights()}
    return plain({"method": method, "run": {**run_facts, **more}, **results})


def evaluate_videos(
    videos: Path,
    reference: Path,
    method: str,
    protocol: Any,
    seeds: bool = False,
    split: str = "test",
    judges: Any = None,
    progress: Callable[[int, int, str], None] | None = None,
    model: Any = None,
    judge: str = "regressor",
    find_crop: Any = None,
) -> dict[str, Any]:
    """Judge a folder of videos against real clips of the same stems.

    Args:
        videos: Folder of videos, or with ``seeds`` of one subfolder for each sampling seed.
        reference: Prepared folder with manifest, or plain folder of real videos.
        method: Name that the result carries.
        protocol: Settings.
        seeds: Whether there are takes of several sampling seeds.
        split: Of a prepared reference.
        judges: Those to ask; None: those that the protocol names, as far as they are there.
        progress: Called with clips done, clips in all and a text.
        model: TalkingHead whose autoencoder gives the row of that name; None: there is no such row.
        judge: Of motion of drawn faces, see `load_motion_judge`.
        find_crop: Finds the crop of some frames to the face; None: by the face finder.

    Returns:
        The content of results.json.

    Raises:
        UserError: A folder is missing or empty, no stem matches, or the judge of motion is not there.
    """
    from metrics.evaluation import evaluation, loading
    from metrics.evaluation.clips import entry, match_videos
    from metrics.evaluation.judges import load_judges, load_motion_judge
    from metrics.evaluation.loop import ROW_PLANS
    from metrics.evaluation.registry import measures_of

    started = time.perf_counter()
    data, alone = match_videos(videos, reference, seeds, split)
    if judges is None:
        name = judge if protocol.name == SYNTHETIC else "landmarks"
        found = load_motion_judge(name, reference, progress=progress, size=protocol.reading.size)
        slots = {slot for one in measures_of(protocol.task) for slot in one.judges}
        judges = load_judges(slots, protocol, found)

    def add_autoencoder(clip: Any) -> Any:
        from experiments.model_clips import through_autoencoder

        try:
            made = through_autoencoder(model, clip.real)
        except (UserError, ValueError) as error:
            return replace(clip, missing=(entry(clip.files.name, "row autoencoder", str(error)),))
        return replace(clip, rows={**clip.rows, "autoencoder": (made,)})

    render = None if model is None else add_autoencoder
    clips = loading.rendered_clips(data, protocol.reading, render, find_crop or loading.find_crop)
    results = evaluation.evaluate(clips, data, protocol, judges, ROW_PLANS[protocol.task], progress)
    if model is None:
        results["missing"].append(
            entry("*", "row autoencoder", "no model was named; give --model DIR or NAME")
        )
    results["missing"] += alone
    run_facts = {
        **machine_record(),
        "videos": videos,
        "reference": reference,
        "split": split if (reference / MANIFEST_NAME).is_file() else None,
        "takes": len(data.judged[0].takes),
        "identities": len({one["identity"] for one in results["clips"]}),
        "judges": judges.weights(),
        "judge": judges.facts,
        "autoencoder": None,
        "seconds": round(time.perf_counter() - started, 1),
    }
    if model is not None:
        from lightning_modules.checkpoints import weights_hash

        run_facts["autoencoder"] = weights_hash(model)
    return plain({"method": method, "run": run_facts, **results})


def _run_videos(args: argparse.Namespace) -> int:
    """Judge the videos that the flags name and write results.json, nothing if not one clip could be judged."""
    output = check_videos(args)
    from experiments.model_clips import log_progress
    from lightning_modules.generation.talking_head import TalkingHead
    from metrics.evaluation.protocol import get_protocol

    protocol = get_protocol(args.protocol, args.task, crop=args.crop, **given_numbers(args))
    model = TalkingHead.from_pretrained(args.model) if args.model else None
    places = (args.videos, args.reference, args.method, protocol, args.seeds, args.split)
    results = evaluate_videos(*places, progress=log_progress, model=model, judge=args.judge)
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


def evaluate_main(overrides: Sequence[str], **parts: Any) -> int:
    """Compose, evaluate and write results.json beside the gallery.

    Args:
        overrides: Words of the command line.
        parts: How model and judge are loaded, see `load_parts`.

    Raises:
        UserError: Wrong overrides, model or data, or not one clip could be judged; nothing is written then.
    """
    from experiments.model_clips import PREPARE_AGAIN, compose_evaluation, load_parts, log_progress

    config = compose_evaluation(overrides, "evaluate")
    method = check_method(config["method"])
    output = require_results_folder(config["output"])
    model, judge, options = load_parts(config, **parts)
    # Pictures appear together with the numbers that belong to them.
    with tempfile.TemporaryDirectory() as scratch:
        gallery = Path(scratch) / GALLERY
        results = evaluate_model(
            model,
            Path(config["data"]["root"]),
            config["split"],
            judge,
            config["clips"],
            config["seeds"],
            options,
            log_progress,
            config["max_frames"],
            gallery if config["gallery_clips"] else None,
            config["gallery_clips"],
            method,
        )
        require_judged(len(results["clips"]), results["missing"], hint=PREPARE_AGAIN)
        results["run"]["model"]["name"] = Path(config["talking_head"]).name
        path = replace_results(output, results, gallery if gallery.is_dir() else None)
    log_results(path, results)
    return 0
