"""What ``ifmdm sweep`` does: how head motion, lips and sharpness of rendered frames answer to the motion intensity."""

import dataclasses
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from datamodules.clips.manifest import ClipRecord, read_manifest
from datamodules.errors import UserError
from datamodules.files import require_output_folder
from datamodules.media.pictures import to_float
from experiments.clip_measures import Clip, generate, lip_values, load_clip
from experiments.evaluate import (
    CLIP_FAILURES,
    PREPARE_AGAIN,
    check_options,
    choose_clips,
    compose_evaluation,
    load_parts,
    model_protocol,
    run_record,
)
from experiments.judges import Progress, load_judge, log_progress
from experiments.pictures import contact_sheet, side_by_side, spread
from experiments.report.figures import sweep_picture
from experiments.results import plain, refuse_nothing, write_json, write_whole
from experiments.video_judges import Judges
from experiments.video_measures import look, own_measures, watch_by
from experiments.video_pairs import protocol_record, recorded_clip
from experiments.video_rows import detector_floor
from metrics.bootstrap import cluster_bootstrap, mean, median
from metrics.motion import Judge

INTENSITIES = (0.0, 0.5, 1.0, 2.0)
MEASURES = (
    "head_motion",
    "lip_corr_zero",
    "lip_corr",
    "lip_lag",
    "mouth_motion",
    "blink_rate",
    "jitter",
    "sharpness",
)

log = logging.getLogger(__name__)


def sharpness(frames: np.ndarray) -> float:
    """Mean over the frames of the variance of the Laplacian of the grey picture, on the 8-bit scale.

    Args:
        frames: ``(T, H, W, 3)`` uint8.
    """
    grey = torch.from_numpy(frames).float().mean(dim=-1)[:, None]  # (T, 1, H, W)
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return float(F.conv2d(grey, kernel).flatten(1).var(dim=1).mean())


def measure_intensity(
    model: Any, clip: Clip, source: Any, judges: Judges, options: Sequence[Any]
) -> tuple[dict, np.ndarray]:
    """Generate a clip once for each of the options (they differ in the seed) and measure its frames.

    Returns:
        Measure -> mean over the seeds (the lag: median), and the first seed's frames ``(T, S, S, 3)``.
    """
    takes = [generate(model, clip.waveform, source, option) for option in options]
    floor, seen = detector_floor(clip.frames, judges), []
    for frames in takes:
        view = look(frames, judges)
        values = own_measures(view, None, floor) | lip_values(view.curves, clip.lip_opening)[0]
        seen.append({**values, "sharpness": sharpness(frames) / sharpness(clip.frames)})
    middle = {name: np.median if name == "lip_lag" else np.mean for name in MEASURES}
    return {name: float(middle[name]([values[name] for values in seen])) for name in MEASURES}, takes[0]


def sweep_intensity(
    model: Any,
    root: Path,
    intensities: Sequence[float] = INTENSITIES,
    judge: Judge | None = None,
    clips: int | None = None,
    seeds: Sequence[int] = (0,),
    split: str = "test",
    options: Any = None,
    max_frames: int | None = None,
    output: Path | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Measure rendered frames at several motion intensities; sources, speech and seeds are the same in all.

    Args:
        model: TalkingHead.
        root: Dataset folder with manifest.
        intensities: Values of ``GenerationOptions.intensity``.
        judge: Measures motion on frames; None: the regressor of the dataset, fitted if need be.
        clips: Number of clips, or all.
        seeds: Sampling seeds.
        split: Split of the clips.
        options: GenerationOptions that all rows share, or the defaults.
        max_frames: Only so many frames of each clip, or all.
        output: Folder for ``sweep.json``, its plot, and sheet and video of the first clip, or None.
        progress: Called with clips done, clips in all and a text.

    Returns:
        One row an intensity: ``{"intensity", MEASURE: {"value", "low", "high", "n"}}``; head_motion and
        jitter in degrees, sharpness as a share of the real clip's.

    Raises:
        UserError: No manifest, no clip in the split, an intensity that the model can't follow, or not one clip
            could be judged; nothing is written then.
    """
    if options is None:
        from lightning_modules.generation.talking_head import GenerationOptions

        options = GenerationOptions()
    started = time.perf_counter()
    root, seeds = Path(root), tuple(seeds)
    check_options(model, options, seeds, intensities)
    chosen = choose_clips(read_manifest(root), split, clips)
    judge = judge or load_judge("regressor", root, progress=progress, size=model.size)
    judges = Judges(watch_by(judge))
    variants = [
        [dataclasses.replace(options, intensity=value, seed=seed) for seed in seeds] for value in intensities
    ]
    judged: list[ClipRecord] = []
    found: list[list[dict[str, float]]] = []
    missing = []
    for number, record in enumerate(chosen):
        try:
            clip = load_clip(root, record, model.size, judge, max_frames)
            source = model.prepare_source(to_float(clip.frames[:1])[0])
            seen = [measure_intensity(model, clip, source, judges, variant) for variant in variants]
        except CLIP_FAILURES as error:
            log.warning("clip %s is left out: %s", record.id, error)
            missing.append({"clip": record.id, "what": "all", "why": str(error)})
        else:
            if output is not None and not judged:
                _write_pictures(output, record.id, intensities, [frames for _, frames in seen], clip)
            judged.append(record)
            found.append([values for values, _ in seen])
        if progress:
            progress(number + 1, len(chosen), f"sweeping {record.id}")
    refuse_nothing(len(judged), missing, hint=PREPARE_AGAIN)
    rows = _aggregate(intensities, judged, found)
    if output is not None:
        pairs = [recorded_clip(root, record) for record in chosen]
        name, settings = model_protocol(chosen, model.size, judge, max_frames)
        sweep = {
            "protocol": protocol_record(name, settings, pairs, (), {judge.name: judge.sha256}),
            "run": run_record(model, options, judge, seeds, time.perf_counter() - started),
            "rows": rows,
            "missing": missing,
        }
        write_json(output / "sweep.json", sweep)
        write_whole(output / "sweep.png", sweep_picture(rows))
    return rows


def _aggregate(
    intensities: Sequence[float], judged: Sequence[ClipRecord], found: Sequence[Sequence[dict[str, float]]]
) -> list[dict[str, Any]]:
    """Rows of the sweep: means over clips (the lag: median) with bootstrap intervals by identity."""
    identities = [record.identity for record in judged]
    rows = []
    for index, value in enumerate(intensities):
        row: dict[str, Any] = {"intensity": float(value)}
        for name in MEASURES:
            statistic = median if name == "lip_lag" else mean
            row[name] = cluster_bootstrap(
                [clip[index][name] for clip in found], identities, statistic
            ).as_dict()
        rows.append(plain(row))
    return rows


def _write_pictures(
    folder: Path, name: str, intensities: Sequence[float], takes: Sequence[np.ndarray], clip: Clip
) -> None:
    labelled = {f"intensity {value:g}": frames for value, frames in zip(intensities, takes, strict=True)}
    contact_sheet(
        {label: spread(frames, 9) for label, frames in labelled.items()}, folder / f"sweep_sheet_{name}.png"
    )
    side_by_side(labelled, folder / f"sweep_{name}.mp4", clip.waveform)


def sweep_main(overrides: Sequence[str]) -> int:
    """Compose, sweep and write sweep.json, its plot, a contact sheet and a video.

    Raises:
        UserError: Wrong overrides, model or data, or not one clip could be judged.
    """
    config = compose_evaluation(overrides, "sweep")
    output = require_output_folder(config["output"])
    values = config["sweep"]["values"]
    if not isinstance(values, list) or not values:
        raise UserError(f"sweep.values={values}: give a list of intensities, e.g. [0,0.5,1,2]")
    model, judge, options = load_parts(config, values)
    rows = sweep_intensity(
        model,
        Path(config["data"]["root"]),
        values,
        judge,
        config["clips"],
        config["seeds"],
        config["split"],
        options,
        config["max_frames"],
        output,
        log_progress,
    )
    for row in rows:
        log.info(
            "intensity %g: head motion %s degrees, lip correlation %s",
            row["intensity"],
            *(
                "unknown" if row[name]["value"] is None else f"{row[name]['value']:.2f}"
                for name in ("head_motion", "lip_corr_zero")
            ),
        )
    log.info("written: %s", output)
    return 0
