"""A model, or a folder of videos, as rendered clips: what ``evaluate`` and ``sweep`` hand to the one evaluation."""

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from datamodules.clips.manifest import MANIFEST_NAME, ClipRecord, read_manifest, without_twins
from datamodules.errors import UserError
from experiments.config import compose, hydra_overrides, resolve
from experiments.model_clips import autoencoder_row, model_rows, with_gallery
from experiments.results import machine_record, plain
from lightning_modules.checkpoints import weights_hash
from lightning_modules.generation.talking_head import GenerationOptions, TalkingHead
from metrics.evaluation.clips import (
    ClipSet,
    entry,
    match_videos,
    recorded_clip,
    reference_clips,
    spare_clips,
)
from metrics.evaluation.evaluation import evaluate
from metrics.evaluation.judges import Judges, Progress, load_judges, load_motion_judge
from metrics.evaluation.loading import rendered_clips
from metrics.evaluation.loop import ROW_PLANS
from metrics.evaluation.protocol import Protocol, get_protocol
from metrics.evaluation.reading import SYNTHETIC, TALKING_HEAD, ReadingSettings
from metrics.evaluation.registry import SLOTS, measures_of
from metrics.motion import MotionJudge

TRAINING_GROUPS = {"experiment": "name", "model": "talking_head"}
"""Words that Hydra would take for config groups of training, and the keys of the evaluation that they mean."""
PREPARE_AGAIN = "prepare the data again"
SECONDS_BETWEEN_LINES = 3.0

log = logging.getLogger(__name__)
_said = -SECONDS_BETWEEN_LINES


def log_progress(done: int, total: int, text: str) -> None:
    """Progress as a plain log line, one every few seconds and the last."""
    global _said
    if done == total or time.monotonic() - _said >= SECONDS_BETWEEN_LINES:
        _said = time.monotonic()
        log.info("%s: %d of %d", text, done, total)


def choose_clips(records: Sequence[ClipRecord], split: str, clips: int | None) -> list[ClipRecord]:
    """Clips of a split without twins, at most ``clips`` of them, taken from all identities in turn.

    Raises:
        UserError: The split is empty, or the number of clips is not at least 1.
    """
    if clips is not None and not (isinstance(clips, int) and clips >= 1):
        raise UserError(f"clips={clips}: use a whole number from 1, or null for all")
    groups: dict[str, list[ClipRecord]] = {}
    for record in without_twins(records):
        if record.split == split:
            groups.setdefault(record.identity, []).append(record)
    if not groups:
        raise UserError(f"split '{split}' has no clips; choose another, or prepare more identities")
    turns = zip_longest(*groups.values())
    return [record for turn in turns for record in turn if record is not None][:clips]


def choose_data(root: Path, split: str, clips: int | None) -> tuple[ClipSet, list[ClipRecord]]:
    """The clips of a dataset that a model is judged on, in the order of their names, and as they were chosen."""
    chosen = choose_clips(read_manifest(root), split, clips)
    judged = [recorded_clip(root, record) for record in sorted(chosen, key=lambda record: record.id)]
    spare = spare_clips(judged, list(reference_clips(root, split).values()))
    return ClipSet(tuple(judged), spare), chosen


def check_options(model: Any, options: Any, seeds: Sequence[int], intensities: Sequence[float] = ()) -> None:
    """Refuse options that this model can't follow at some seeds and intensities (none: their own), before any work is done.

    Raises:
        UserError: A value of the wrong type or out of range, or no seed.
    """
    if not seeds:
        raise UserError("seeds=[]: give at least one sampling seed")
    for seed in seeds:
        for value in intensities or [options.intensity]:
            try:
                dataclasses.replace(options, intensity=value, seed=seed).check(model)
            except TypeError as error:
                raise UserError(f"generation options: a value is of the wrong type ({error})") from error


def model_protocol(
    records: Sequence[ClipRecord], size: int, judge: MotionJudge, max_frames: int | None
) -> Protocol:
    """The protocol that a model's clips are judged by: of drawn faces where a fitted judge looks, else of real ones."""
    if hasattr(judge, "look"):
        return get_protocol(TALKING_HEAD, size=size, max_frames=max_frames)
    other = size if any(record.size != size for record in records) else None
    return get_protocol(SYNTHETIC, size=other, max_frames=max_frames)


def compose_evaluation(overrides: Sequence[str], name: str) -> dict[str, Any]:
    """Compose ``configs/NAME.yaml``; ``experiment=X`` takes the dataset of that training config.

    Raises:
        UserError: The overrides do not compose, an experiment is named without the model that came of it, or no dataset is
            named.
    """
    pairs = [word.partition("=") for word in hydra_overrides(overrides)]
    words = [f"{TRAINING_GROUPS.get(key, key)}{sign}{value}" for key, sign, value in pairs]
    config = resolve(compose(words, name))
    if config["name"] and not any(key in ("model", "talking_head") for key, _, _ in pairs):
        raise UserError(
            f"experiment={config['name']} names the data alone; give model=DIR, the folder that `ifmdm package` wrote, too"
        )
    if config["name"] and config["data"]["root"] is None:
        config["data"]["root"] = compose([f"experiment={config['name']}"]).data.get("root")
    if config["data"]["root"] is None:
        raise UserError(
            "no dataset: give data.root=FOLDER, or experiment=NAME whose data is meant "
            "(`ifmdm evaluate --help` tells of videos and of the self-test)"
        )
    return config


def load_parts(
    config: dict[str, Any],
    intensities: Sequence[float] = (),
    load_model: Callable[[str], Any] = TalkingHead.from_pretrained,
    load_judge: Callable[..., MotionJudge] = load_motion_judge,
) -> dict[str, Any]:
    """The arguments of `evaluate_model` that a config names; options are checked before the judge is fitted.

    Raises:
        UserError: No such model or judge, options that the model can't follow, or a number that makes no sense.
    """
    most, seeds, least = config["max_frames"], config["seeds"], ReadingSettings().shortest
    if most is not None and not (isinstance(most, int) and most >= least):
        raise UserError(f"max_frames={most}: use a whole number from {least}, or null for all")
    if not isinstance(seeds, list) or len(set(seeds)) < len(seeds):
        raise UserError(f"seeds={seeds}: give a list such as [0,1,2], no seed twice")
    root = Path(config["data"]["root"])
    choose_clips(read_manifest(root), config["split"], config["clips"])
    model = load_model(config["talking_head"])
    try:
        options = GenerationOptions(**config["generation"])
    except TypeError as error:
        raise UserError(f"generation options: {error}") from error
    check_options(model, options, seeds, intensities)
    limit = config["judge_seconds"]
    judge = load_judge(config["judge"], root, seconds=limit, progress=log_progress, size=model.size)
    found = {"model": model, "root": root, "judge": judge, "options": options, "progress": log_progress}
    return found | {key: config[key] for key in ("split", "clips", "seeds", "max_frames")}


def run_record(
    model: Any, options: Any, judge: MotionJudge, seeds: Sequence[int], seconds: float
) -> dict[str, Any]:
    """By which code, settings and machine, and how far the judge can be trusted."""
    return {
        **machine_record(),
        "model": {"weights": weights_hash(model), "size": model.size},
        "generation": plain(dataclasses.asdict(options)),
        "seeds": list(seeds),
        "judge": {"name": judge.name, **plain(getattr(judge, "facts", {}))},
        "seconds": round(seconds, 1),
    }


def evaluate_model(
    model: Any,
    root: Path,
    split: str = "test",
    judge: MotionJudge | None = None,
    clips: int | None = None,
    seeds: Sequence[int] = (0,),
    options: Any = None,
    progress: Progress | None = None,
    max_frames: int | None = None,
    gallery: Path | None = None,
    gallery_clips: int = 4,
    method: str = "ifmdm",
    judges: Judges | None = None,
) -> dict[str, Any]:
    """The content of results.json of a TalkingHead on the clips of a split of the dataset folder ``root``.

    At most so many ``clips`` of at most ``max_frames`` are judged. Motion is measured by ``judge``, else by the regressor
    of the dataset, fitted if need be; all else by ``judges``, else by those that the protocol names, as far as they are
    there. Contact sheets and videos of the first ``gallery_clips`` go to the folder ``gallery``; ``method`` is the name
    that the result carries, ``options`` are GenerationOptions.

    Raises:
        UserError: No manifest, no clip in the split, or options that the model can't follow.
    """
    options, started, root = options or GenerationOptions(), time.perf_counter(), Path(root)
    check_options(model, options, tuple(seeds))
    data, chosen = choose_data(root, split, clips)
    judge = judge or load_motion_judge("regressor", root, progress=progress, size=model.size)
    protocol = model_protocol(chosen, model.size, judge, max_frames)
    judges = judges or load_judges(SLOTS, protocol, judge)
    rendered = rendered_clips(data, protocol.reading, model_rows(model, tuple(seeds), options))
    if gallery is not None:
        rendered = with_gallery(rendered, gallery, {one.id for one in chosen[:gallery_clips]})
    results = evaluate(rendered, data, protocol, judges, ROW_PLANS["model"], progress)
    facts = run_record(model, options, judge, seeds, time.perf_counter() - started)
    return _with_run(results, method, {**facts, "split": split}, judges)


def evaluate_videos(
    videos: Path,
    reference: Path,
    method: str,
    protocol: Protocol,
    seeds: bool = False,
    split: str = "test",
    judges: Judges | None = None,
    progress: Progress | None = None,
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
    started = time.perf_counter()
    data, alone = match_videos(videos, reference, seeds, split)
    if judges is None:
        name = judge if protocol.name == SYNTHETIC else "landmarks"
        looks = load_motion_judge(name, reference, progress=progress, size=protocol.reading.size)
        slots = {slot for one in measures_of(protocol.task) for slot in one.judges}
        judges = load_judges(slots, protocol, looks)
    clips = rendered_clips(data, protocol.reading, None if model is None else autoencoder_row(model))
    results = evaluate(clips, data, protocol, judges, ROW_PLANS[protocol.task], progress)
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
    return _with_run(results, method, facts, judges)


def _with_run(results: dict[str, Any], method: str, facts: dict[str, Any], judges: Judges) -> dict[str, Any]:
    identities = len({one["identity"] for one in results["clips"]})
    more = {"identities": identities, "judges": judges.weights()}
    return plain({"method": method, "run": {**facts, **more}, **results})
