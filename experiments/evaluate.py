"""``ifmdm evaluate``: measures a trained model on clips of identities it never saw, and writes results.json.

What the command understands is in `experiments.evaluate_command`. With ``--videos`` or ``--selftest`` no model is asked:
`experiments.evaluate_videos` and `experiments.selftest`.

Motion is measured on rendered frames by a judge, never read from motion vectors. Every table has the same
rows: real video, real video through the codec, real motion through the autoencoder, the still source frame,
generation from the clip's own speech, and generation from another voice's speech (``swapped``). ``shuffled`` is the
floor of lip sync: what was generated from the clip's own speech against that other speech.
"""

import dataclasses
import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.clips.manifest import ClipRecord, read_manifest, without_twins
from datamodules.errors import UserError
from experiments.clip_measures import ClipResult, load_clip, measure_clip
from experiments.evaluate_command import check_method
from experiments.judges import Progress, load_judge, log_progress
from experiments.pictures import contact_sheet, side_by_side, spread
from experiments.results import (
    GALLERY,
    plain,
    refuse_nothing,
    replace_results,
    require_results_folder,
    tell_results,
)
from experiments.run_identity import git_state, machine_facts
from experiments.version import __version__
from experiments.video_judges import REAL_FACES, Judges, load_judges
from experiments.video_pairs import (
    Missing,
    VideoPair,
    clip_length,
    entry,
    foreign_speech,
    protocol_record,
    recorded_clip,
    spare_clips,
)
from experiments.video_rows import add_correlations, listen, window_starts
from experiments.video_summary import summarise
from lightning_modules.checkpoints import weights_hash
from metrics.bootstrap import Interval, cluster_bootstrap
from metrics.motion import MotionJudge as Judge
from metrics.protocol import SHORTEST, SYNTHETIC, TASKS, protocol_settings

ROWS = ("real", "codec", "autoencoder", "still", "generated", "swapped")
TRAINING_GROUPS = {"experiment": "name", "model": "talking_head"}
"""Words that Hydra would take for config groups of training, and the keys of the evaluation that they mean."""
CLIP_FAILURES = (UserError, OSError, ValueError)
"""What a broken or unfit clip can raise: it is listed under ``missing`` and the others are still judged."""
PREPARE_AGAIN = "prepare the data again"

log = logging.getLogger(__name__)


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
    longest = max(len(group) for group in groups.values())
    ordered = [group[turn] for turn in range(longest) for group in groups.values() if turn < len(group)]
    return ordered[:clips]


def check_options(model: Any, options: Any, seeds: Sequence[int], intensities: Sequence[float] = ()) -> None:
    """Refuse options that this model can't follow, before any work is done.

    Args:
        model: TalkingHead.
        options: GenerationOptions.
        seeds: Sampling seeds that the options are used with.
        intensities: Intensities that they are used with; none: their own.

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
    records: Sequence[ClipRecord], size: int, judge: Judge, max_frames: int | None
) -> tuple[str, dict[str, Any]]:
    """Name and settings of the protocol that a model's clips are judged by.

    Drawn faces, which a fitted judge looks at, are judged by ``synthetic-v1``; real ones, which MediaPipe looks at, by
    ``talking-head-v1`` at the model's size.
    """
    changes: dict[str, Any] = {"max_frames": max_frames}
    if judge.name == REAL_FACES:
        return "talking-head-v1", protocol_settings("talking-head-v1", size=size, **changes)
    if any(record.size != size for record in records):
        changes["size"] = size
    return SYNTHETIC, protocol_settings(SYNTHETIC, **changes)


def _removed(rows: np.ndarray) -> float:
    error, baseline = rows.sum(axis=0)
    return float(1 - error / baseline) if baseline else float("nan")


def errors_removed(results: Sequence[ClipResult]) -> dict[str, Interval]:
    """Shares of the errors at mouth and eyes of copying the source frame that the autoencoder takes away."""
    metrics = {}
    clusters = [result.judged.pair.identity for result in results]
    shares = {
        "mouth_error_removed": ("mouth_autoencoder", "mouth_still"),
        "eye_error_removed": ("eyes_autoencoder", "eyes_still"),
    }
    for name, parts in shares.items() if results else ():
        rows = np.array([[result.sums.get(part, float("nan")) for part in parts] for result in results])
        metrics[name] = cluster_bootstrap(rows, clusters, _removed)
    return metrics


def lag_curves(results: Sequence[ClipResult]) -> dict[str, list[float]]:
    """Correlation with the true lip opening at lags -10 .. 10, mean over clips, for each row that has one."""
    curves = {}
    for row in ROWS:
        known = [
            r.lag_curves[row] for r in results if row in r.lag_curves and np.isfinite(r.lag_curves[row]).all()
        ]
        if known:
            curves[row] = np.mean(known, axis=0).round(4).tolist()
    return curves


def write_gallery(
    folder: Path, record: ClipRecord, rows: dict[str, np.ndarray], waveform: np.ndarray
) -> None:
    """A contact sheet and a video with sound of the rows of one clip."""
    shown = {
        "source": rows["real"][:1],
        "true": spread(rows["real"], 9),
        "autoencoder": spread(rows["autoencoder"], 9),
        "generated": spread(rows["generated"], 9),
    }
    contact_sheet(shown, folder / f"sheet_{record.id}.png")
    videos = {"true": rows["real"], "autoencoder": rows["autoencoder"], "generated": rows["generated"]}
    side_by_side(videos, folder / f"rows_{record.id}.mp4", waveform)


def evaluate_model(
    model: Any,
    root: Path,
    split: str = "test",
    judge: Judge | None = None,
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
        judges: Those to ask besides ``judge``; None: those that the protocol names, as far as they are there.

    Returns:
        The content of results.json. Metrics without a suffix belong to the row they are meant for
        (reconstruction: autoencoder, the rest: generated), ``NAME_ROW`` to another row.

    Raises:
        UserError: No manifest, no clip in the split, or options that the model can't follow.
    """
    if options is None:
        from lightning_modules.generation.talking_head import GenerationOptions

        options = GenerationOptions()
    started = time.perf_counter()
    root, seeds = Path(root), tuple(seeds)
    check_options(model, options, seeds)
    chosen = choose_clips(read_manifest(root), split, clips)
    shown = {record.id for record in chosen[:gallery_clips]} if gallery is not None else set()
    chosen = sorted(chosen, key=lambda record: record.id)
    judge = judge or load_judge("regressor", root, progress=progress, size=model.size)
    drawn = None if judge.name == REAL_FACES else judge
    name, settings = model_protocol(chosen, model.size, judge, max_frames)
    judges = judges or load_judges(settings, drawn, TASKS)
    pairs = [recorded_clip(root, record) for record in chosen]
    spares = spare_clips(pairs, root, split)
    protocol = protocol_record(name, settings, pairs, spares, judges.ranked_by("generation"))
    results: list[ClipResult] = []
    failed: list[VideoPair] = []
    missing: list[Missing] = [entry("*", what, why) for what, why in judges.missing]
    windows = window_starts([clip_length(pair) for pair in pairs], settings, judges)
    for place, record in enumerate(chosen):
        try:
            clip = load_clip(root, record, model.size, judge, max_frames)
            foreign = foreign_speech([*pairs, *spares], place, len(clip))
            result, rows = measure_clip(model, root, clip, judges, seeds, options, foreign, windows[place])
        except CLIP_FAILURES as error:
            log.warning("clip %s is left out: %s", record.id, error)
            missing.append(entry(record.id, "all", str(error)))
            failed.append(pairs[place])
        else:
            if gallery is not None and record.id in shown:
                write_gallery(gallery, record, rows, clip.waveform)
            results.append(result)
            missing += result.missing
        if progress:
            progress(place + 1, len(chosen), f"evaluating {record.id}")
    judged = [result.judged for result in results]
    missing += add_correlations(judged, listen([*failed, *spares], settings, judges))
    metrics, unknown, notes = summarise(judged, judges, pairs, spares)
    metrics |= errors_removed(results)
    return {
        "protocol": protocol,
        "method": method,
        "run": {
            **run_record(model, options, judge, seeds, time.perf_counter() - started),
            "split": split,
            "identities": len({one.pair.identity for one in judged}),
            "judges": judges.hashes,
        },
        "metrics": {name: interval.as_dict() for name, interval in metrics.items()},
        "clips": [
            {"clip": one.pair.name, "identity": one.pair.identity, **plain(one.values)} for one in judged
        ],
        "missing": missing + unknown,
        "notes": notes,
        "lag_curves": lag_curves(results),
    }


def run_record(
    model: Any, options: Any, judge: Judge, seeds: Sequence[int], seconds: float
) -> dict[str, Any]:
    """By which code, settings and machine, and how far the judge can be trusted."""
    commit, dirty = git_state(Path(__file__).resolve().parents[1])
    return {
        "version": __version__,
        "commit": commit,
        "dirty": dirty,
        "model": {"weights": weights_hash(model), "size": model.size},
        "generation": plain(dataclasses.asdict(options)),
        "seeds": list(seeds),
        "judge": {"name": judge.name, **plain(getattr(judge, "facts", {}))},
        "seconds": round(seconds, 1),
        "machine": machine_facts(),
    }


def compose_evaluation(overrides: Sequence[str], name: str) -> dict[str, Any]:
    """Compose ``configs/NAME.yaml``; ``experiment=X`` takes the dataset of that training config.

    Raises:
        UserError: The overrides do not compose, an experiment is named without the model that came of it, or no dataset is
            named.
    """
    from experiments.config import check_words, compose, resolve

    check_words(overrides)
    pairs = [word.partition("=") for word in overrides]
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


def load_parts(config: dict[str, Any], intensities: Sequence[float] = ()) -> tuple[Any, Judge, Any]:
    """Model, judge and generation options that a config names; the options are checked before the judge is fitted.

    Raises:
        UserError: No such model or judge, options that the model can't follow, at one of the intensities or seeds, or a
            number that makes no sense.
    """
    from lightning_modules.generation.talking_head import GenerationOptions, TalkingHead

    most, seeds = config["max_frames"], config["seeds"]
    if most is not None and not (isinstance(most, int) and most >= SHORTEST):
        raise UserError(f"max_frames={most}: use a whole number from {SHORTEST}, or null for all")
    if not isinstance(seeds, list) or len(set(seeds)) < len(seeds):
        raise UserError(f"seeds={seeds}: give a list such as [0,1,2], no seed twice")
    root = Path(config["data"]["root"])
    choose_clips(read_manifest(root), config["split"], config["clips"])
    model = TalkingHead.from_pretrained(config["talking_head"])
    try:
        options = GenerationOptions(**config["generation"])
    except TypeError as error:
        raise UserError(f"generation options: {error}") from error
    check_options(model, options, config["seeds"], intensities)
    judge = load_judge(
        config["judge"], root, seconds=config["judge_seconds"], progress=log_progress, size=model.size
    )
    return model, judge, options


def evaluate_main(overrides: Sequence[str]) -> int:
    """Compose, evaluate and write results.json beside the gallery.

    Raises:
        UserError: Wrong overrides, model or data, or not one clip could be judged; nothing is written then.
    """
    config = compose_evaluation(overrides, "evaluate")
    method = check_method(config["method"])
    output = require_results_folder(config["output"])
    model, judge, options = load_parts(config)
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
        refuse_nothing(len(results["clips"]), results["missing"], hint=PREPARE_AGAIN)
        results["run"]["model"]["name"] = Path(config["talking_head"]).name
        path = replace_results(output, results, gallery if gallery.is_dir() else None)
    tell_results(path, results)
    return 0
