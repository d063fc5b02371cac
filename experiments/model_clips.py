"""The rows that a model adds to real clips: what makes a model an iterator over rendered clips."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.clips.annotations import read_annotations
from datamodules.errors import UserError
from datamodules.media.pictures import to_float
from experiments.pictures import contact_sheet, side_by_side, spread
from metrics.evaluation.clips import entry
from metrics.evaluation.loading import RenderedClip, Truth, resize

Render = Callable[[RenderedClip], RenderedClip]
GALLERY_ROWS = ("autoencoder", "generated")
"""Rows that sheets and videos of the gallery show beside the true frames."""


def reconstruct(model: Any, frames: np.ndarray) -> np.ndarray:
    """Real motion of frames ``(T, S, S, 3)`` uint8 of a size of the model's through its autoencoder, from the first one."""
    images = to_float(frames)
    source = model.prepare_source(images[0], frames.shape[1])
    return np.stack(list(model.render(source, model.motion_of(images))))


def through_autoencoder(model: Any, frames: np.ndarray) -> np.ndarray:
    """As `reconstruct`, of square frames ``(T, S, S, 3)`` uint8 of any size.

    Raises:
        ValueError: The frames are not square.
    """
    height, width = frames.shape[1:3]
    if height != width:
        raise ValueError(f"{width} x {height} pixels are no square for the autoencoder; use --crop face")
    side = height if height in model.sizes else model.size
    return resize(reconstruct(model, resize(frames, side, side)), height, width)


def generate(
    model: Any, waveform: Any, source: Any, options: Any, seeds: Sequence[int]
) -> tuple[np.ndarray, ...]:
    """Frames generated from speech ``(640 T,)``, ``(T, S, S, 3)`` uint8, one take a seed."""
    motions = (
        model.generate_motion(source, waveform, dataclasses.replace(options, seed=seed)) for seed in seeds
    )
    return tuple(np.stack(list(model.render(source, motion))) for motion in motions)


def read_truth(clip: RenderedClip) -> Truth:
    """What the annotations of a clip say of its frames.

    Raises:
        ValueError: Fewer frames are annotated than it has.
    """
    length, path = len(clip), clip.files.annotations
    known = read_annotations(path).arrays if path else {}
    found = {key: known[key][:length] for key in ("lip_opening", "regions") if key in known}
    if any(len(values) < length for values in found.values()):
        raise ValueError(f"{length} frames, but fewer are annotated")
    regions = found.get("regions")
    return Truth(found.get("lip_opening"), None if regions is None else regions.astype(np.float32))


def _prepared(model: Any, clip: RenderedClip) -> tuple[Any, Truth]:
    """The source and what is known of a clip of a size of the model's; one without sound is a ValueError."""
    if clip.waveform is None:
        raise ValueError(clip.silence)
    truth = read_truth(clip)
    return model.prepare_source(
        to_float(clip.real[:1])[0], clip.real.shape[1], lids=True, shut_lips=True
    ), truth


def model_rows(model: Any, seeds: Sequence[int], options: Any) -> Render:
    """Renders the rows of a real clip: generated, one take a seed, the autoencoder's, and from another voice's speech."""

    def render(clip: RenderedClip) -> RenderedClip:
        source, truth = _prepared(model, clip)
        rows: dict[str, tuple[np.ndarray, ...]] = {"autoencoder": (reconstruct(model, clip.real),)}
        started = time.perf_counter()
        takes = generate(model, clip.waveform, source, options, seeds)
        fps = len(seeds) * len(clip) / (time.perf_counter() - started)
        if clip.foreign is not None:
            rows["swapped"] = generate(model, clip.foreign.waveform, source, options, seeds[:1])
        return dataclasses.replace(clip, rows={"generated": takes, **rows}, truth=truth, facts={"fps": fps})

    return render


def autoencoder_row(model: Any) -> Render:
    """Adds the row of a model's autoencoder to a clip with its videos, or why there is none."""

    def render(clip: RenderedClip) -> RenderedClip:
        try:
            made = through_autoencoder(model, clip.real)
        except (UserError, ValueError) as error:
            lacking = entry(clip.files.name, "row autoencoder", str(error))
            return dataclasses.replace(clip, missing=(*clip.missing, lacking))
        return dataclasses.replace(clip, rows={**clip.rows, "autoencoder": (made,)})

    return render


@dataclasses.dataclass(frozen=True)
class SweptTake:
    """What was generated with some options.

    Attributes:
        frames: ``(T, S, S, 3)`` uint8.
        motion: ``(T, M)`` raw motion.
        requested: ``(W, M)`` std that each window was to have, where it is asked for and there is one.
    """

    frames: np.ndarray
    motion: Any
    requested: Any = None


@dataclasses.dataclass(frozen=True)
class SweptSource:
    """A real clip whose source is encoded once for all options."""

    model: Any
    clip: RenderedClip
    source: Any

    def takes(self, options: Any, seeds: Sequence[int], requests: bool = False) -> list[SweptTake]:
        """Takes of the clip's speech, one a seed; ``requests``: with the std that was asked of their windows."""
        found = []
        for seed in seeds:
            given = dataclasses.replace(options, seed=seed)
            if requests:
                features = self.model.speech_features(self.clip.waveform)
                motion, requested = self.model.motion_and_request(self.source, features, given)
            else:
                motion, requested = self.model.generate_motion(self.source, self.clip.waveform, given), None
            found.append(SweptTake(np.stack(list(self.model.render(self.source, motion))), motion, requested))
        return found


def prepare_swept(model: Any, clip: RenderedClip) -> SweptSource:
    """Encode the source of a real clip.

    Raises:
        ValueError: It has no sound, or its annotations are of fewer frames.
    """
    source, truth = _prepared(model, clip)
    return SweptSource(model, dataclasses.replace(clip, truth=truth), source)


def with_gallery(clips: Iterable[RenderedClip], folder: Path, shown: set[str]) -> Iterator[RenderedClip]:
    """Pass the clips on, and write a contact sheet and a video with sound of the rows of some of them."""
    for clip in clips:
        if clip.files.name in shown and not clip.failure:
            name, made = clip.files.name, {row: takes[0] for row, takes in clip.rows.items()}
            videos = {"true": clip.real} | {row: made[row] for row in GALLERY_ROWS if row in made}
            sheet = {row: spread(frames, 9) for row, frames in videos.items()}
            contact_sheet({"source": clip.real[:1], **sheet}, folder / f"sheet_{name}.png")
            side_by_side(videos, folder / f"rows_{name}.mp4", clip.waveform)
        yield clip
