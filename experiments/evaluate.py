"""``ifmdm evaluate``: measures a model on clips it never saw, or anyone's videos, or the measures themselves.

What renders and judges is imported once the words and flags make sense. Motion is measured on rendered frames by a judge,
never read from motion vectors. Rows beside the method's: real video, real video through the codec, real motion through an
autoencoder, the still source frame, for a model its generation from another voice's speech (``swapped``); ``shuffled`` is
the method's own lips against that other speech. Whatever can't be judged is listed with its reason.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.clips.manifest import MANIFEST_NAME, MAX_SIZE
from datamodules.errors import UserError
from experiments.config import require_model
from experiments.evaluation_flags import (
    DEFAULTS,
    check_method,
    check_selftest,
    check_videos,
    given_flags,
    given_numbers,
)
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
from metrics.evaluation.protocol_names import FREE, SYNTHETIC, TALKING_HEAD, TALKING_HEAD_FREE, TASKS

if TYPE_CHECKING:
    from experiments.evaluation_setup import EvaluatedModel
    from metrics.evaluation.judges import Judges, Progress
    from metrics.evaluation.protocol import Protocol

ALSO_OVERRIDES = ("method", "output", "max_frames", "model", "split", "judge", "speakers")
"""Flags that are overrides of the same name where a model is evaluated."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words of ``ifmdm evaluate``."""
    parser.description = (
        "Evaluate a trained model: model=DIR data.root=DIR and further Hydra overrides of configs/evaluate.yaml. "
        "Or anyone's videos: --videos DIR --reference DIR --method NAME, without real ones --sources DIR."
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="model=DIR data.root=DIR split=test clips=8 ..."
    )
    group = parser.add_argument_group("anyone's videos", "judged without a model, matched by file stem")
    flag = group.add_argument
    flag("--videos", type=Path, metavar="DIR", help="the method's videos")
    flag("--reference", type=Path, metavar="DIR", help="real videos, or a prepared folder")
    flag("--sources", type=Path, metavar="DIR", help="without real videos: portraits and speech by stem")
    flag("--speakers", type=Path, metavar="DIR", help="further real videos of others, to fit av_* on")
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
    flag("--check", action="store_true", help="look at the folders only: can everything be judged?")
    flag("--selftest", action="store_true", help="corrupt real clips: do the measures answer in order?")
    parser.set_defaults(**DEFAULTS)


def run(args: argparse.Namespace) -> int:
    """Evaluate as the command line says.

    Raises:
        UserError: Flags of the two forms are mixed, or as the chosen form says.
    """
    given = given_flags(args)
    if given and args.overrides:
        flag = given[0].replace("_", "-")
        hint = f", for a model {given[0]}=..." if given[0] in ALSO_OVERRIDES else ""
        raise UserError(
            f"--{flag} judges videos and takes no '{args.overrides[0]}'; give one form only{hint}"
        )
    if args.selftest:
        check_selftest(args, given)
        from experiments import selftest

        return selftest.run(args)
    if given:
        return _run_videos(args)
    return evaluate_main(args.overrides)


def _run_videos(args: argparse.Namespace) -> int:
    """Judge the videos that the flags name and write results.json, nothing if not one clip could be judged."""
    output = check_videos(args)
    if args.check:
        from experiments.evaluation_check import check_folders

        return check_folders(args)
    from experiments.evaluation_setup import load_model, log_progress
    from metrics.evaluation.protocol import get_protocol

    name, task = (args.protocol, args.task) if args.sources is None else (TALKING_HEAD_FREE, FREE)
    protocol = get_protocol(name, task, crop=args.crop, **given_numbers(args))
    model = load_model(args.model, hears=False) if args.model else None
    if args.sources is not None:
        folders = (args.videos, args.sources, args.method, protocol, args.speakers)
        results = evaluate_free(*folders, progress=log_progress)
    else:
        asked = {
            key: getattr(args, key)
            for key in ("videos", "reference", "method", "seeds", "split", "judge", "speakers")
        }
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
    speakers: Path | None = None,
) -> dict[str, Any]:
    """The content of results.json of a folder of videos against real clips of the same stems, see `match_videos`.

    ``judges`` are asked, else those that the protocol names, as far as they are there; ``judge`` is that of motion of drawn
    faces, see `load_motion_judge`. The autoencoder of ``model``, a TalkingHead, gives the row of that name; without it
    there is none. ``method`` is the name that the result carries; clips of ``speakers`` are learnt from, too.

    Raises:
        UserError: A folder is missing or empty, no stem matches, or the judge of motion is not there.
    """
    from experiments.model_clips import autoencoder_row
    from lightning_modules.checkpoints import weights_hash
    from metrics.evaluation.clip_results import ROW_FAMILIES
    from metrics.evaluation.clips import entry, match_videos, with_speakers
    from metrics.evaluation.judges import load_judges, load_motion_judge
    from metrics.evaluation.loading import rendered_clips
    from metrics.evaluation.registry import measures_of
    from metrics.evaluation.run import evaluate

    started = time.perf_counter()
    data, alone = match_videos(videos, reference, seeds, split)
    data = with_speakers(data, speakers)
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
        "speakers": speakers,
        "split": split if (reference / MANIFEST_NAME).is_file() else None,
        "takes": len(data.judged[0].takes),
        "judge": judges.facts,
        "autoencoder": None if model is None else weights_hash(model),
        "seconds": round(time.perf_counter() - started, 1),
    }
    return with_run(results, method, facts, judges)


def evaluate_free(
    videos: Path,
    sources: Path,
    method: str,
    protocol: "Protocol",
    speakers: Path | None = None,
    judges: "Judges | None" = None,
    progress: "Progress | None" = None,
) -> dict[str, Any]:
    """The content of results.json of a folder of videos beside the portraits and speech that they were made from.

    ``speakers`` has real videos of other people that the regression from speech to lips is fitted on; without it there is no
    ``av_*``. Folders and their matching: see `match_sources`; ``judges`` as of `evaluate_videos`.

    Raises:
        UserError: A folder is missing or empty, no stem matches, or no model of faces is there.
    """
    from metrics.evaluation.clip_results import ROW_FAMILIES
    from metrics.evaluation.judges import load_judges, load_motion_judge
    from metrics.evaluation.loading import rendered_clips
    from metrics.evaluation.registry import measures_of
    from metrics.evaluation.run import evaluate
    from metrics.evaluation.sources import add_regression, load_with_portrait, match_sources

    started = time.perf_counter()
    data, alone = match_sources(videos, sources, speakers)
    if judges is None:
        slots = {slot for one in measures_of(FREE) for slot in one.judges}
        judges = load_judges(slots, protocol, load_motion_judge("landmarks", sources))
    add_regression(judges, data)
    clips = rendered_clips(data, protocol.reading, load=load_with_portrait)
    results = evaluate(clips, data, protocol, judges, ROW_FAMILIES[FREE], progress)
    results["missing"] += alone
    folders = {"videos": videos, "sources": sources, "speakers": speakers}
    seconds = round(time.perf_counter() - started, 1)
    facts = {**machine_record(), **folders, "judge": judges.facts, "seconds": seconds}
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
            _check_size(config["compared_at"])
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


def _check_size(side: Any) -> None:
    """Refuse a size that frames of an autoencoder can't be compared at; those of a model: see `rendered_side`."""
    if side is not None and not (type(side) is int and 16 <= side <= MAX_SIZE):
        raise UserError(f"compared_at={side}: use a whole number of pixels, 16 to {MAX_SIZE}")


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
