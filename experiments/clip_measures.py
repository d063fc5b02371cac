"""What is measured on one clip: the rows of the table, each as frames, each seen by the same judge."""

import dataclasses
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.clips.annotations import read_annotations
from datamodules.clips.manifest import ClipRecord
from datamodules.media.pictures import to_float
from experiments.video_judges import Judges
from experiments.video_measures import View
from experiments.video_pairs import Foreign, Missing, VideoClip, entry, load_pair, recorded_clip
from experiments.video_rows import Judged, Plan, judge_clip, pool_rows, reconstruct
from experiments.video_sync import over_takes
from metrics.motion import MotionCurves, lagged_correlation
from metrics.motion import MotionJudge as Judge
from metrics.motion import measure_motion as measure
from metrics.protocol import SYNTHETIC, protocol_settings
from metrics.reconstruction import region_errors

PLAN = Plan(
    aligned=("codec", "still", "autoencoder"),
    free=("codec", "still", "autoencoder", "generated", "swapped"),
    aligned_home="autoencoder",
)
"""A model's rows: measures frame by frame judge its autoencoder, never its free generation."""
LIPS = ("lip_corr", "lip_corr_zero", "lip_lag")
"""Lips of a row against the true ones, which only annotated clips know better than the judge."""


@dataclass(frozen=True)
class Clip:
    """A real clip and its truth.

    Attributes:
        record: Its manifest row.
        frames: ``(T, S, S, 3)`` uint8 at the model's size.
        waveform: ``(640 T,)`` float32 speech.
        lip_opening: ``(T,)`` true lip opening: annotated, or measured by the judge on the real frames.
        regions: ``(T, 3, 4)`` boxes of mouth and eyes, or None.
    """

    record: ClipRecord
    frames: np.ndarray
    waveform: np.ndarray
    lip_opening: np.ndarray
    regions: np.ndarray | None

    def __len__(self) -> int:
        return len(self.frames)


@dataclass
class ClipResult:
    """What was found on one clip.

    Attributes:
        record: Its manifest row.
        judged: What every evaluation says of a clip.
        sums: Squared errors of regions, which are pooled over clips before a share is formed.
        lag_curves: Row -> correlation at lags -10 .. 10.
        missing: What could not be judged.
    """

    record: ClipRecord
    judged: Judged
    sums: dict[str, float] = field(default_factory=dict)
    lag_curves: dict[str, np.ndarray] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)

    @property
    def values(self) -> dict[str, float]:
        """Metric name -> value of this clip."""
        return self.judged.values


def load_clip(root: Path, record: ClipRecord, size: int, judge: Judge, max_frames: int | None = None) -> Clip:
    """Read a clip with its truth.

    Args:
        root: Dataset folder.
        record: The clip.
        size: Edge of the frames the model works at; others are resized as the protocol says.
        judge: Measures the true lip opening where no annotation says it.
        max_frames: Only so many frames from the start, or all.

    Raises:
        UserError: The video can't be read.
        ValueError: There is no sound or it ends earlier than the pictures, as the annotations do, or the clip is too short
            to judge.
    """
    settings = protocol_settings(SYNTHETIC, size=size, max_frames=max_frames)
    shown = load_pair(recorded_clip(root, record), settings)
    if shown.waveform is None:
        raise ValueError(shown.silence)
    frames, length = shown.real, len(shown)
    truth = read_annotations(root / record.annotations).arrays if record.annotations else {}
    lips = truth["lip_opening"][:length] if "lip_opening" in truth else measure(frames, judge).lip_opening
    regions = truth["regions"][:length].astype(np.float32) if "regions" in truth else None
    if len(lips) < length or (regions is not None and len(regions) < length):
        raise ValueError(f"{length} frames, but fewer are annotated")
    return Clip(record, frames, shown.waveform, lips, regions)


def stack(frames: Iterable[np.ndarray]) -> np.ndarray:
    """Frames one by one -> ``(T, H, W, 3)`` uint8."""
    return np.stack(list(frames))


def generate(model: Any, waveform: np.ndarray, source: Any, options: Any) -> np.ndarray:
    """Frames generated from speech ``(640 T,)``: ``(T, S, S, 3)`` uint8."""
    return stack(model.render(source, model.generate_motion(source, waveform, options)))


def lip_values(curves: MotionCurves, lip_opening: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """The values named in ``LIPS``, and the correlation at every lag."""
    found = lagged_correlation(curves.lip_opening, lip_opening)
    return {"lip_corr": found.best, "lip_corr_zero": found.at_zero, "lip_lag": found.lag}, found.curve


def add_lips(result: ClipResult, row: str, views: list[View], clip: Clip) -> None:
    """Hold the lips of a row against the true ones."""
    seen = [lip_values(view.curves, clip.lip_opening) for view in views]
    for name in LIPS:
        result.values[PLAN.name(name, row)] = over_takes(name, [one[name] for one, _ in seen])
    result.lag_curves[row] = np.mean([curve for _, curve in seen], axis=0)


def add_region_errors(result: ClipResult, row: str, view: View, real: View, regions: np.ndarray) -> None:
    """Squared errors of mouth and eyes; the source frame itself is left out."""
    mouth, eyes = region_errors(view.frames[1:], real.frames[1:], torch.from_numpy(regions[1:])).tolist()
    result.sums[f"mouth_{row}"], result.sums[f"eyes_{row}"] = mouth, eyes


def measure_clip(
    model: Any,
    root: Path,
    clip: Clip,
    judges: Judges,
    seeds: tuple[int, ...],
    options: Any,
    foreign: Foreign | None,
    windows: list[int],
) -> tuple[ClipResult, dict[str, np.ndarray]]:
    """All rows of one clip.

    Args:
        model: TalkingHead.
        root: Dataset folder.
        clip: The real clip; its first frame is the source.
        judges: The judges at hand.
        seeds: Sampling seeds of the generated row; the row ``swapped`` uses the first.
        options: GenerationOptions of the model.
        foreign: Speech of another voice, which the row ``swapped`` is made from, or None if there is none.
        windows: First frames of the clip's windows for FVD.

    Returns:
        The values, and the frames of each row ``(T, S, S, 3)`` uint8 for pictures.
    """
    record = clip.record
    source = model.prepare_source(to_float(clip.frames[:1])[0])
    others: dict[str, tuple[np.ndarray, ...]] = {"autoencoder": (reconstruct(model, clip.frames),)}
    started = time.perf_counter()
    takes = tuple(
        generate(model, clip.waveform, source, dataclasses.replace(options, seed=seed)) for seed in seeds
    )
    fps = len(seeds) * len(clip) / (time.perf_counter() - started)
    if foreign is not None:
        first = dataclasses.replace(options, seed=seeds[0])
        others["swapped"] = (generate(model, foreign.waveform, source, first),)
    shown = VideoClip(recorded_clip(root, record), clip.frames, takes, clip.waveform, "", "", others)
    judged, views, missing = judge_clip(shown, judges, PLAN, foreign)
    result = ClipResult(record, judged, missing=missing)
    result.values["psnr_gain"] = result.values["psnr"] - result.values["psnr_still"]
    result.values["fps"] = fps
    for row, seen in views.items():
        add_lips(result, row, seen, clip)
        if row in ("autoencoder", "still") and clip.regions is not None:
            add_region_errors(result, row, seen[0], views["real"][0], clip.regions)
    if clip.regions is None:
        missing.append(entry(record.id, "mouth_error_removed, eye_error_removed", "no regions are annotated"))
    pool_rows(views, judges, shown.pair.identity, windows)
    return result, {"real": clip.frames, "autoencoder": others["autoencoder"][0], "generated": takes[0]}
