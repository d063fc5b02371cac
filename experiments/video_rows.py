"""The rows of one clip of anyone's videos, and all clips one after the other: what fails is listed, the rest goes on."""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.errors import UserError
from datamodules.media.pictures import to_float
from datamodules.media.video import read_video, write_video
from experiments.judges import Progress
from experiments.video_judges import Judges
from experiments.video_measures import (
    MotionSample,
    View,
    diversity,
    generation_measures,
    look,
    motion_sample,
    own_measures,
    reconstruction_measures,
    trusted,
)
from experiments.video_pairs import (
    Foreign,
    Missing,
    VideoClip,
    VideoPair,
    clip_length,
    entry,
    foreign_speech,
    load_pair,
    resize,
)
from experiments.video_sync import (
    NETWORK_SCORES,
    REGRESSION_SCORES,
    SYNC_ROWS,
    Heard,
    Lessons,
    correlations,
    network_scores,
    over_takes,
)
from metrics.protocol import CODEC_CRF, MEASURES

FLOOR_FRAMES = 50
"""Frames of the still clip that the detector's own trembling is measured on."""
POOLED_ROWS = ("real", "codec", "autoencoder", "generated")
"""Rows that are judged over all clips at once: every one costs a pass of the networks."""

log = logging.getLogger(__name__)


@dataclass
class Judged:
    """What is kept of a clip once its frames are gone.

    Attributes:
        pair: Its files.
        values: Measures by name; bare for the method, ``NAME_ROW`` for other rows.
        motion: Row -> what it adds to the distributions of motion.
        heard: Its lips and speech.
        fitted: Number of clips that the regression from speech to lips was fitted on, once it was.
    """

    pair: VideoPair
    values: dict[str, float]
    heard: Heard
    motion: dict[str, list[MotionSample]] = field(default_factory=dict)
    fitted: int = 0


@dataclass(frozen=True)
class Plan:
    """Which rows are compared how.

    Attributes:
        aligned: Rows that are compared with the real clip frame by frame.
        free: Rows that are judged as free generation.
        aligned_home: Row whose frame-by-frame measures have bare names.
        home: Row whose other measures have bare names.
    """

    aligned: tuple[str, ...]
    free: tuple[str, ...]
    aligned_home: str = "generated"
    home: str = "generated"

    def name(self, measure: str, row: str) -> str:
        """Name of a row's measure in results: bare for the row it is meant for, else with the row's name."""
        known = MEASURES.get(measure)
        aligned = known is not None and known.family == "reconstruction"
        return measure if row == (self.aligned_home if aligned else self.home) else f"{measure}_{row}"


VIDEO_ROWS = ("codec", "autoencoder", "generated", "still")
PLANS = {
    "generation": Plan(aligned=(), free=VIDEO_ROWS),
    "reconstruction": Plan(aligned=VIDEO_ROWS, free=()),
}
"""How anyone's videos are judged: by one family of measures, as they are either free or true to the real motion."""


def through_codec(frames: np.ndarray) -> np.ndarray:
    """The frames after H.264 at the rate that prepared clips are written with."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, frames, crf=CODEC_CRF)
        return read_video(path)[: len(frames), : frames.shape[1], : frames.shape[2]]


def through_autoencoder(model: Any, frames: np.ndarray) -> np.ndarray:
    """Real motion of square frames ``(T, S, S, 3)`` uint8 from their first one, by a model's autoencoder.

    Args:
        model: TalkingHead; its own size does not matter.
        frames: As the model wants faces framed.

    Raises:
        ValueError: The frames are not square.
    """
    height, width = frames.shape[1:3]
    if height != width:
        raise ValueError(f"{width} x {height} pixels are no square for the autoencoder; use --crop face")
    made = reconstruct(model, resize(frames, model.size, model.size))
    return resize(made, height, width)


def reconstruct(model: Any, frames: np.ndarray) -> np.ndarray:
    """Real motion of frames ``(T, S, S, 3)`` uint8 of the model's size through its autoencoder, from the first one."""
    images = to_float(frames)
    source = model.prepare_source(images[0])
    return np.stack(list(model.render(source, model.motion_of(images))))


def _add_autoencoder(clip: VideoClip, model: Any) -> list[Missing]:
    """Add the row ``autoencoder`` where there is a model and it can see the clip; returns what is missing."""
    if model is not None:
        try:
            clip.others["autoencoder"] = (through_autoencoder(model, clip.real),)
        except (UserError, ValueError) as error:
            return [entry(clip.pair.name, "row autoencoder", str(error))]
    return []


def _over_takes(found: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: over_takes(name, [one[name] for one in found]) for name in (found[0] if found else {})}


def see_rows(clip: VideoClip, whole: View, judges: Judges) -> dict[str, list[View]]:
    """Look at each row of a clip: real, through the codec, still, the takes, and the others it brings.

    Args:
        clip: The frames of the rows.
        whole: View of the whole real clip.
        judges: The judges at hand.
    """
    rows = {"real": [whole.first(len(clip))], "codec": [look(through_codec(clip.real), judges)]}
    for row, takes in {"generated": clip.takes, **clip.others}.items():
        rows[row] = [look(take, judges) for take in takes]
    rows["still"] = [whole.still(len(clip))]
    return rows


def measure_rows(
    clip: VideoClip, rows: dict[str, list[View]], judges: Judges, plan: Plan
) -> tuple[dict[str, float], list[Missing]]:
    """Measure a clip's rows, lip sync left out: values, and what could not be judged."""
    name, missing = clip.pair.name, []
    real = rows["real"][0]
    floor = 0.0 if real.points is None else detector_floor(clip.real, judges)
    first = rows["still"][0].embeddings  # known even where the real clip shows its face too seldom
    source = None if first is None else first[0]
    values: dict[str, float] = {}
    for row, views in rows.items():
        for view in views:
            if view.faceless:
                rest = "have no value, as these are over a tenth" if view.unseen else "leave these frames out"
                what = f"{row}: {view.faceless} of {len(view)} frames"
                missing.append(entry(name, what, f"no face found; the measures of faces {rest}"))
        found = [own_measures(view, source, floor) for view in views]
        for one, view in zip(found, views, strict=True):
            if row in plan.aligned:
                one.update(reconstruction_measures(view, real, judges))
            if row in plan.free:
                one.update(generation_measures(view, real))
        values.update({plan.name(key, row): value for key, value in _over_takes(found).items()})
        if row == "generated" and len(views) > 1 and "mouth_lmd" in found[0]:
            # The best of more takes is better: results of other numbers of seeds must not meet under one name.
            # NaN if one take has none, as the mean is: a plain min would depend on the order of the takes.
            best = float(np.min([one["mouth_lmd"] for one in found]))
            values[f"mouth_lmd_best_of_{len(views)}"] = best
            values.update(diversity(views))
    return values, missing


def detector_floor(frames: np.ndarray, judges: Judges) -> float:
    """Trembling that the detector of landmarks sees in the still source frame through the codec.

    Args:
        frames: ``(T, H, W, 3)`` uint8, the real clip.
        judges: The judges at hand.

    Returns:
        0 where it sees no face, or the judge knows no landmarks.
    """
    still = look(through_codec(np.repeat(frames[:1], min(FLOOR_FRAMES, len(frames)), axis=0)), judges)
    floor = own_measures(still, None)["jitter"]
    return floor if still.points is not None and np.isfinite(floor) else 0.0


def judge_clip(
    clip: VideoClip, judges: Judges, plan: Plan, foreign: Foreign | None
) -> tuple[Judged, dict[str, list[View]], list[Missing]]:
    """All that one clip says, except what needs the others.

    Args:
        clip: The rows of a real clip.
        judges: The judges at hand.
        plan: Which rows are compared how.
        foreign: Speech of another voice, which the takes are held against for ``shuffled`` and the clip's row ``swapped``,
            if it brings one, was made from. None: there is none.

    Returns:
        The values, the views of each row, and what could not be judged.
    """
    pair = clip.pair
    whole = look(clip.whole, judges)
    rows = see_rows(clip, whole, judges)
    values, missing = measure_rows(clip, rows, judges, plan)
    lips = {row: [view.curves.lip_opening for view in views] for row, views in rows.items()}
    heard = Heard(pair.name, pair.identity, pair.voice, clip.sound, whole.curves.lip_opening, lips, foreign)
    if clip.waveform is None:
        missing.append(entry(pair.name, f"{REGRESSION_SCORES}, {NETWORK_SCORES}", clip.silence))
    else:
        if foreign is None:
            missing.append(entry(pair.name, "row shuffled", "no clip with sound of another voice"))
        if judges.sync is not None:
            seen = {row: [(v.frames, v.points) for v in rows[row]] for row in SYNC_ROWS if row in rows}
            against = None if foreign is None else foreign.waveform
            scores, absent = network_scores(judges.sync, seen, clip.waveform, against)
            values.update(scores)
            missing += _by_reason(pair.name, absent)
    judged = Judged(pair, values, heard)
    judged.motion = {row: [motion_sample(view) for view in views] for row, views in rows.items()}
    return judged, rows, missing


def pool_rows(rows: dict[str, list[View]], judges: Judges, identity: str, windows: Sequence[int]) -> None:
    """Hand a clip's rows to the judges over all clips; last of all, as these can't forget a clip that fails afterwards.

    Args:
        rows: The views of each row.
        judges: The judges at hand.
        identity: Who is seen.
        windows: First frames of the clip's windows for FVD.
    """
    for row in POOLED_ROWS:
        for take, view in enumerate(rows.get(row, [])):
            if judges.images is not None:
                judges.images.update(view.frames, row, identity, take)
            if judges.windows is not None:
                judges.windows.update(view.frames, windows, row, identity, take)


def _by_reason(clip: str, absent: dict[str, str]) -> list[Missing]:
    """Entries for rows without a value of SyncNet, those with one reason together."""
    rows: dict[str, list[str]] = {}
    for row, why in absent.items():
        rows.setdefault(why, []).append(row)
    return [entry(clip, f"{NETWORK_SCORES} of {', '.join(of)}", why) for why, of in rows.items()]


def window_starts(lengths: Sequence[int], settings: dict[str, Any], judges: Judges) -> list[list[int]]:
    """First frames of the windows for FVD in clips of so many frames; none where nobody looks at them."""
    starts: list[list[int]] = [[] for _ in lengths]
    if judges.windows is not None:
        from metrics.fvd import FvdSettings, draw_windows

        most = settings["max_frames"]
        lengths = [min(length, most) if most else length for length in lengths]
        if max(lengths) >= settings["fvd"]["window"]:
            chosen = FvdSettings(settings["fvd"]["windows"], seed=settings["fvd"]["seed"])
            for clip, start in draw_windows(lengths, chosen):
                starts[clip].append(start)
    return starts


def listen(spares: Sequence[VideoPair], settings: dict[str, Any], judges: Judges) -> list[Heard]:
    """Lips and speech of real clips; what can't be read is left out, as it is judged by nothing."""
    heard: list[Heard] = []
    for spare in spares:
        try:
            clip = load_pair(spare, settings)
            if clip.sound is None:
                continue
            lips = trusted(judges.watch(clip.whole)[0]).lip_opening
        except (UserError, OSError, ValueError) as error:
            log.info("%s: not used for fitting (%s)", spare.name, error)
            continue
        heard.append(Heard(spare.name, spare.identity, spare.voice, clip.sound, lips))
    return heard


def judge_pairs(
    pairs: Sequence[VideoPair],
    settings: dict[str, Any],
    judges: Judges,
    progress: Progress | None = None,
    spares: Sequence[VideoPair] = (),
    model: Any = None,
) -> tuple[list[Judged], list[Missing], list[str]]:
    """Judge all pairs; what fails is listed and the others go on.

    Args:
        pairs: The real clips and the method's videos.
        settings: Of the protocol.
        judges: The judges at hand.
        progress: Called with clips done, clips in all and a text.
        spares: Real clips without a video: what speech does to lips is learnt from them too, as it is from those whose
            video can't be judged.
        model: TalkingHead for the row ``autoencoder``; None: there is no such row.

    Returns:
        The judged clips, what is missing, and remarks.
    """
    judged: list[Judged] = []
    missing: list[Missing] = []
    failed: list[VideoPair] = []
    resized: dict[str, list[str]] = {}
    windows = window_starts([clip_length(pair) for pair in pairs], settings, judges)
    for place, pair in enumerate(pairs):
        try:
            clip = load_pair(pair, settings)
            missing += _add_autoencoder(clip, model)
            foreign = foreign_speech([*pairs, *spares], place, len(clip))
            one, rows, absent = judge_clip(clip, judges, PLANS[settings["task"]], foreign)
            pool_rows(rows, judges, pair.identity, windows[place])
        except (UserError, OSError, ValueError) as error:
            log.warning("clip %s is left out: %s", pair.name, error)
            missing.append(entry(pair.name, "all", str(error)))
            failed.append(replace(pair, takes=()))
        else:
            judged.append(one)
            missing += absent
            if clip.resized:
                height, width = clip.real.shape[1:3]
                resized.setdefault(f"{clip.resized} to {width}x{height}", []).append(pair.name)
        if progress:
            progress(place + 1, len(pairs), f"evaluating {pair.name}")
    missing += add_correlations(judged, listen([*failed, *spares], settings, judges))
    notes = [f"resized from {sizes}: {', '.join(names)}" for sizes, names in resized.items()]
    return judged, missing, notes


def add_correlations(judged: Sequence[Judged], spares: Sequence[Heard]) -> list[Missing]:
    """Add ``av_*`` to every clip, by regressions fitted on the other clips and on spare ones; returns what is missing."""
    lessons = Lessons([*(one.heard for one in judged), *spares])
    missing = []
    for one in judged:
        values, one.fitted, why = correlations(one.heard, lessons)
        one.values.update(values)
        if why and one.heard.sound is not None:
            missing.append(entry(one.pair.name, REGRESSION_SCORES, why))
    return missing
