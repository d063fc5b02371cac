"""What is measured on one clip: the rows of the table, each as frames, each seen by the same judge."""

import dataclasses
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.annotations import read_annotations
from datamodules.audio import fit_length, frame_count, load_audio
from datamodules.batches import SAMPLES_PER_FRAME
from datamodules.errors import UserError
from datamodules.frames import resize_frames
from datamodules.manifest import ClipRecord
from datamodules.video import read_video, write_video
from metrics.motion import Judge, blink_rate, head_motion, jitter, lagged_correlation, measure, mouth_motion
from metrics.reconstruction import L1, SSIM, psnr_from_mse, region_errors, squared_error

ALIGNED = ("psnr", "ssim", "l1")
"""Measures of reconstruction, frame by frame. Never of free generation, where they reward stillness."""
MOTION = ("lip_corr", "lip_corr_zero", "lip_lag", "head_motion", "mouth_motion", "blink_rate", "jitter")
CODEC_CRF = 18


def metric_name(measure_name: str, row: str) -> str:
    """Name of a measure of a row in results: bare for the row it is meant for, else with the row's name."""
    home = "autoencoder" if measure_name in ALIGNED else "generated"
    return measure_name if row == home else f"{measure_name}_{row}"


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
        values: Metric name -> value of this clip.
        sums: Squared errors and pixel counts, which are pooled over clips before a PSNR or share is formed.
        lag_curves: Row -> correlation at lags -10 .. 10.
        missing: (what, why) of single measures that could not be made.
    """

    record: ClipRecord
    values: dict[str, float] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    lag_curves: dict[str, np.ndarray] = field(default_factory=dict)
    missing: list[tuple[str, str]] = field(default_factory=list)


def load_speech(root: Path, record: ClipRecord) -> np.ndarray:
    """Speech of a clip ``(S,)`` at 16 kHz: its wav, or the sound of its video."""
    return load_audio(root / (record.audio or record.video))


def load_clip(root: Path, record: ClipRecord, size: int, judge: Judge, max_frames: int | None = None) -> Clip:
    """Read a clip with its truth.

    Args:
        root: Dataset folder.
        record: The clip.
        size: Edge of the frames the model works at; others are resized with antialiasing.
        judge: Measures the true lip opening where no annotation says it.
        max_frames: Only so many frames from the start, or all.

    Raises:
        ValueError: Picture and sound differ by more than two frames, the annotations end earlier, or the clip is too
            short to judge.
    """
    stored = read_video(root / record.video)
    speech = load_speech(root, record)
    if abs(len(stored) - frame_count(len(speech))) > 2:
        raise ValueError(f"{len(stored)} frames but {frame_count(len(speech))} frames of sound")
    length = min(len(stored), frame_count(len(speech)), max_frames or len(stored))
    if length < 16:
        raise ValueError(f"only {length} frames: too short to judge")
    frames = resize_frames(stored[:length], size)
    truth = read_annotations(root / record.annotations).arrays if record.annotations else {}
    lips = truth["lip_opening"][:length] if "lip_opening" in truth else measure(frames, judge).lip_opening
    regions = truth["regions"][:length].astype(np.float32) if "regions" in truth else None
    if len(lips) < length or (regions is not None and len(regions) < length):
        raise ValueError(f"{length} frames, but fewer are annotated")
    return Clip(record, frames, fit_length(speech, length), lips, regions)


def to_tensor(frames: np.ndarray) -> Tensor:
    """``(T, H, W, 3)`` uint8 -> ``(T, 3, H, W)`` float32 in [-1, 1]."""
    images = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    return images.float() / 127.5 - 1


def stack(frames: Iterable[np.ndarray]) -> np.ndarray:
    """Frames one by one -> ``(T, H, W, 3)`` uint8."""
    return np.stack(list(frames))


def through_codec(frames: np.ndarray) -> np.ndarray:
    """The frames after H.264 at the rate that prepared clips are written with."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, frames, crf=CODEC_CRF)
        return read_video(path)[: len(frames), : frames.shape[1], : frames.shape[2]]


def reconstruct(model: Any, clip: Clip, source: Any) -> np.ndarray:
    """Real motion of every frame through the autoencoder, from the source frame: ``(T, S, S, 3)`` uint8."""
    return stack(model.render(source, model.motion_of(to_tensor(clip.frames))))


def generate(model: Any, waveform: np.ndarray, source: Any, options: Any) -> np.ndarray:
    """Frames generated from speech ``(640 T,)``: ``(T, S, S, 3)`` uint8."""
    return stack(model.render(source, model.generate_motion(source, waveform, options)))


def add_aligned(result: ClipResult, row: str, frames: np.ndarray, clip: Clip) -> None:
    """Compare a row frame by frame with the real clip; the source frame itself is left out."""
    predicted = torch.from_numpy(frames[1:]).permute(0, 3, 1, 2)
    target = torch.from_numpy(clip.frames[1:]).permute(0, 3, 1, 2)
    error = float(squared_error(predicted, target).double().sum())
    result.sums[f"error_{row}"] = error
    result.sums["pixels"] = float(target.numel())
    result.values[metric_name("psnr", row)] = psnr_from_mse(error / target.numel())
    for name, metric in (("ssim", SSIM()), ("l1", L1())):
        metric.update(predicted, target)
        result.values[metric_name(name, row)] = float(metric.compute())
    if clip.regions is not None:
        mouth, eyes = region_errors(predicted, target, torch.from_numpy(clip.regions[1:])).tolist()
        result.sums[f"mouth_{row}"], result.sums[f"eyes_{row}"] = mouth, eyes


def motion_values(
    frames: np.ndarray, lip_opening: np.ndarray, judge: Judge
) -> tuple[dict[str, float], np.ndarray]:
    """What the judge sees on frames: the values named in ``MOTION``, and the correlation at every lag."""
    curves = measure(frames, judge)
    lips = lagged_correlation(curves.lip_opening, lip_opening)
    values = {
        "lip_corr": lips.best,
        "lip_corr_zero": lips.at_zero,
        "lip_lag": lips.lag,
        "head_motion": head_motion(curves.rotation),
        "mouth_motion": mouth_motion(curves.lip_opening),
        "blink_rate": blink_rate(curves.blink),
        "jitter": jitter(curves.rotation),
    }
    return values, lips.curve


def add_motion(result: ClipResult, row: str, takes: list[np.ndarray], clip: Clip, judge: Judge) -> None:
    """Measure the motion of a row: mean over its takes (sampling seeds), the lag as their median."""
    seen = [motion_values(frames, clip.lip_opening, judge) for frames in takes]
    for name in MOTION:
        values = [one[name] for one, _ in seen]
        middle = np.median(values) if name == "lip_lag" else np.mean(values)
        result.values[metric_name(name, row)] = float(middle)
    result.lag_curves[row] = np.mean([curve for _, curve in seen], axis=0)


def measure_clip(
    model: Any,
    clip: Clip,
    judge: Judge,
    seeds: tuple[int, ...],
    options: Any,
    other_speech: np.ndarray | None,
) -> tuple[ClipResult, dict[str, np.ndarray]]:
    """All rows of one clip.

    Args:
        model: TalkingHead.
        clip: The real clip; its first frame is the source.
        judge: Measures motion on frames.
        seeds: Sampling seeds of the generated row; the shuffled row uses the first.
        options: GenerationOptions of the model.
        other_speech: ``(640 T,)`` speech of another voice, or None if there is none.

    Returns:
        The values, and the frames of each row ``(T, S, S, 3)`` uint8 for pictures.
    """
    result = ClipResult(clip.record)
    source = model.prepare_source(to_tensor(clip.frames[:1])[0])
    rows = {
        "real": clip.frames,
        "codec": through_codec(clip.frames),
        "still": np.repeat(clip.frames[:1], len(clip), axis=0),
        "autoencoder": reconstruct(model, clip, source),
    }
    started = time.perf_counter()
    takes = [
        generate(model, clip.waveform, source, dataclasses.replace(options, seed=seed)) for seed in seeds
    ]
    result.values["fps"] = len(seeds) * len(clip) / (time.perf_counter() - started)
    for row in ("codec", "still", "autoencoder"):
        add_aligned(result, row, rows[row], clip)
    for row, frames in rows.items():
        add_motion(result, row, [frames], clip, judge)
    add_motion(result, "generated", takes, clip, judge)
    rows["generated"] = takes[0]
    if other_speech is None:
        result.missing.append(("shuffled", "no clip with another voice"))
    else:
        options = dataclasses.replace(options, seed=seeds[0])
        rows["shuffled"] = generate(model, other_speech, source, options)
        add_motion(result, "shuffled", [rows["shuffled"]], clip, judge)
    if clip.regions is None:
        result.missing.append(("mouth_error_removed, eye_error_removed", "no regions are annotated"))
    return result, rows


def speech_of_another_voice(
    root: Path, record: ClipRecord, records: list[ClipRecord], frames: int
) -> np.ndarray | None:
    """Speech of the next clip that has another voice, repeated or cut to the length; None without one."""
    place = records.index(record)
    for other in records[place + 1 :] + records[:place]:
        if other.voice != record.voice:
            speech = load_speech(root, other)
            if not len(speech):
                raise UserError(f"{root / str(other.audio)}: holds no sound; prepare the data again")
            return np.resize(speech, frames * SAMPLES_PER_FRAME).astype(np.float32)
    return None
