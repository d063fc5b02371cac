"""A model as rendered clips: it speaks the clips of a split that it never saw, for ``evaluate`` and ``sweep``."""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.clips.annotations import read_annotations
from datamodules.clips.manifest import ClipRecord, read_manifest, without_twins
from datamodules.errors import UserError
from datamodules.media.pictures import to_float
from experiments.config import compose, hydra_overrides, resolve
from experiments.pictures import contact_sheet, side_by_side, spread
from experiments.results import machine_record, plain
from lightning_modules.checkpoints import weights_hash
from lightning_modules.generation.talking_head import GenerationOptions, TalkingHead
from metrics.evaluation.clips import ClipSet, recorded_clip, reference_clips, spare_clips
from metrics.evaluation.judges import load_motion_judge
from metrics.evaluation.loading import RenderedClip, Truth, resize
from metrics.evaluation.protocol import Protocol, get_protocol
from metrics.evaluation.reading import SYNTHETIC, TALKING_HEAD, ReadingSettings
from metrics.motion import MotionJudge

TRAINING_GROUPS = {"experiment": "name", "model": "talking_head"}
"""Words that Hydra would take for config groups of training, and the keys of the evaluation that they mean."""
PREPARE_AGAIN = "prepare the data again"
SECONDS_BETWEEN_LINES = 3.0

Render = Callable[[RenderedClip], RenderedClip]
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
    longest = max(len(group) for group in groups.values())
    ordered = [group[turn] for turn in range(longest) for group in groups.values() if turn < len(group)]
    return ordered[:clips]


def choose_data(root: Path, split: str, clips: int | None) -> tuple[ClipSet, list[ClipRecord]]:
    """The clips of a dataset that a model is judged on, in the order of their names, and as they were chosen."""
    chosen = choose_clips(read_manifest(root), split, clips)
    judged = [recorded_clip(root, record) for record in sorted(chosen, key=lambda record: record.id)]
    spare = spare_clips(judged, list(reference_clips(root, split).values()))
    return ClipSet(tuple(judged), spare), chosen


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
    records: Sequence[ClipRecord], size: int, judge: MotionJudge, max_frames: int | None
) -> Protocol:
    """The protocol that a model's clips are judged by: of drawn faces where a fitted judge looks, else of real ones."""
    if hasattr(judge, "look"):
        return get_protocol(TALKING_HEAD, size=size, max_frames=max_frames)
    other = size if any(record.size != size for record in records) else None
    return get_protocol(SYNTHETIC, size=other, max_frames=max_frames)


def reconstruct(model: Any, frames: np.ndarray) -> np.ndarray:
    """Real motion of frames ``(T, S, S, 3)`` uint8 of the model's size through its autoencoder, from the first one."""
    images = to_float(frames)
    return np.stack(list(model.render(model.prepare_source(images[0]), model.motion_of(images))))


def through_autoencoder(model: Any, frames: np.ndarray) -> np.ndarray:
    """As `reconstruct`, of square frames ``(T, S, S, 3)`` uint8 of any size.

    Raises:
        ValueError: The frames are not square.
    """
    height, width = frames.shape[1:3]
    if height != width:
        raise ValueError(f"{width} x {height} pixels are no square for the autoencoder; use --crop face")
    return resize(reconstruct(model, resize(frames, model.size, model.size)), height, width)


def generate(model: Any, waveform: np.ndarray, source: Any, options: Any) -> np.ndarray:
    """Frames generated from speech ``(640 T,)``: ``(T, S, S, 3)`` uint8."""
    return np.stack(list(model.render(source, model.generate_motion(source, waveform, options))))


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


def model_rows(model: Any, seeds: Sequence[int], options: Any) -> Render:
    """Renders the rows of a real clip: generated, one take a seed, the autoencoder's, and from another voice's speech.

    A clip without sound is a ValueError.
    """

    def render(clip: RenderedClip) -> RenderedClip:
        if clip.waveform is None:
            raise ValueError(clip.silence)
        truth = read_truth(clip)
        source = model.prepare_source(to_float(clip.real[:1])[0])
        rows = {"autoencoder": (reconstruct(model, clip.real),)}
        started = time.perf_counter()
        variants = [dataclasses.replace(options, seed=seed) for seed in seeds]
        takes = tuple(generate(model, clip.waveform, source, variant) for variant in variants)
        fps = len(seeds) * len(clip) / (time.perf_counter() - started)
        if clip.foreign is not None:
            rows["swapped"] = (generate(model, clip.foreign.waveform, source, variants[0]),)
        return dataclasses.replace(clip, rows={"generated": takes, **rows}, truth=truth, facts={"fps": fps})

    return render


def swept_rows(model: Any, seeds: Sequence[int], variants: Sequence[Any]) -> Render:
    """Renders one row for each of some options, named by its place; sources, speech and seeds are the same in all."""

    def render(clip: RenderedClip) -> RenderedClip:
        if clip.waveform is None:
            raise ValueError(clip.silence)
        truth, source = read_truth(clip), model.prepare_source(to_float(clip.real[:1])[0])
        rows = {
            str(place): tuple(
                generate(model, clip.waveform, source, dataclasses.replace(variant, seed=seed))
                for seed in seeds
            )
            for place, variant in enumerate(variants)
        }
        return dataclasses.replace(clip, rows=rows, truth=truth)

    return render


def with_gallery(clips: Iterable[RenderedClip], folder: Path, shown: set[str]) -> Iterator[RenderedClip]:
    """Pass the clips on, and write a contact sheet and a video with sound of the rows of some of them."""
    for clip in clips:
        if clip.files.name in shown and not clip.failure:
            name, made = clip.files.name, {row: takes[0] for row, takes in clip.rows.items()}
            sheet = {"source": clip.real[:1], "true": spread(clip.real, 9)}
            sheet |= {row: spread(made[row], 9) for row in ("autoencoder", "generated")}
            contact_sheet(sheet, folder / f"sheet_{name}.png")
            videos = {"true": clip.real, "autoencoder": made["autoencoder"], "generated": made["generated"]}
            side_by_side(videos, folder / f"rows_{name}.mp4", clip.waveform)
        yield clip


def compose_evaluation(overrides: Sequence[str], name: str) -> dict[str, Any]:
    """Compose ``configs/NAME.yaml``; ``experiment=X`` takes the dataset of that training config.

    Raises:
        UserError: The overrides do not compose, an experiment is named without the model that came of it, or no dataset is
            named.
    """
    hydra_overrides(overrides)  # refuses what is no KEY=VALUE
    pairs = [word.partition("=") for word in overrides]
    config = resolve(
        compose([f"{TRAINING_GROUPS.get(key, key)}{sign}{value}" for key, sign, value in pairs], name)
    )
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
) -> tuple[Any, MotionJudge, Any]:
    """Model, judge and generation options that a config names; the options are checked before the judge is fitted.

    Raises:
        UserError: No such model or judge, options that the model can't follow, at one of the intensities or seeds, or a
            number that makes no sense.
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
    return model, judge, options


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
