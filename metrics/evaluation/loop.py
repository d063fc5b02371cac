"""One loop over rendered clips, whoever rendered them: every row looked at, every measure asked, what fails is listed."""

import logging
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.media.video import read_video, write_video
from metrics.evaluation.clips import CLIP_FAILURES, ClipFiles, ClipSet, Missing, entry
from metrics.evaluation.contexts import FrameContext, SpeechContext
from metrics.evaluation.judges import Judges, Progress
from metrics.evaluation.loading import RenderedClip
from metrics.evaluation.pooled import RowDistances
from metrics.evaluation.protocol import Protocol
from metrics.evaluation.registry import MEASURES, of_kind, values_of
from metrics.evaluation.speech import (
    SPEECH_ROWS,
    ClipSpeech,
    LipRegressors,
    add_closures,
    mean_over_takes,
    read_speech,
    regression_scores,
    suffix,
)
from metrics.evaluation.views import View
from metrics.fvd import draw_windows
from metrics.motion import lagged_correlation
from metrics.reconstruction import region_errors

POOLED_ROWS = ("real", "codec", "autoencoder", "generated")
"""Rows that are judged over all clips at once: every one costs a pass of the networks."""
_BATCH = 32
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowPlan:
    """Which rows are compared how.

    Attributes:
        aligned: Rows that are compared with the real clip frame by frame.
        free: Rows that are judged as free generation.
        aligned_home: Row whose frame-by-frame measures have bare names.
    """

    aligned: tuple[str, ...]
    free: tuple[str, ...]
    aligned_home: str = "generated"

    def name(self, measure: str, row: str) -> str:
        """Name of a row's measure in results: bare for the row it is meant for, else with the row's name."""
        known = MEASURES.get(measure)
        aligned = known is not None and known.family == "reconstruction"
        return measure if row == (self.aligned_home if aligned else "generated") else f"{measure}_{row}"


_VIDEO_ROWS = ("codec", "autoencoder", "generated", "still")
ROW_PLANS = {
    "generation": RowPlan((), _VIDEO_ROWS),
    "reconstruction": RowPlan(_VIDEO_ROWS, ()),
    "model": RowPlan(
        ("codec", "still", "autoencoder"),
        ("codec", "still", "autoencoder", "generated", "swapped"),
        "autoencoder",
    ),
}
"""Anyone's videos are judged by one family of measures, by their task; of a model, measures frame by frame judge its
autoencoder, never its free generation."""


@dataclass
class JudgedClip:
    """What is kept of a clip once its frames are gone.

    Attributes:
        files: Where it comes from.
        speech: Its speech, and the lips of its rows.
        values: Measures by name; bare for the method, ``NAME_ROW`` for other rows.
        motion: Row -> what each take adds to the distributions of motion, by measure.
        fitted: Number of clips that the regression from speech to lips was fitted on, once it was.
        region_sums: Squared errors of regions, which are pooled over clips before a share is formed.
        lag_curves: Row -> correlation with the true lips at every lag.
    """

    files: ClipFiles
    speech: ClipSpeech
    values: dict[str, float]
    motion: dict[str, list[dict[str, np.ndarray]]] = field(default_factory=dict)
    fitted: int = 0
    region_sums: dict[str, float] = field(default_factory=dict)
    lag_curves: dict[str, np.ndarray] = field(default_factory=dict)


def through_codec(frames: np.ndarray, crf: int) -> np.ndarray:
    """The frames after H.264."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, frames, crf=crf)
        return read_video(path)[: len(frames), : frames.shape[1], : frames.shape[2]]


def see_rows(clip: RenderedClip, whole: View, judges: Judges, protocol: Protocol) -> dict[str, list[View]]:
    """Look at each row of a clip: real, through the codec, still, and those that were rendered.

    Args:
        clip: The frames of the rows.
        whole: View of the whole real clip.
        judges: At hand.
        protocol: Settings.
    """
    coded = through_codec(clip.real, protocol.reading.codec_crf)
    rows = {"real": [whole.first(len(clip))], "codec": [judges.look(coded, protocol)]}
    for row, takes in clip.rows.items():
        rows[row] = [judges.look(take, protocol) for take in takes]
    rows["still"] = [whole.still(len(clip))]
    return rows


def floor_view(frames: np.ndarray, judges: Judges, protocol: Protocol) -> View | None:
    """The still source frame of ``(T, H, W, 3)`` uint8 through the codec, where landmarks are judged."""
    if "landmarks" not in judges.hashes:
        return None
    still = np.repeat(frames[:1], min(protocol.jitter_floor.frames, len(frames)), axis=0)
    return judges.look(through_codec(still, protocol.reading.codec_crf), protocol)


def measure_rows(
    clip: RenderedClip, rows: dict[str, list[View]], judges: Judges, protocol: Protocol, plan: RowPlan
) -> tuple[dict[str, float], dict[str, list[dict[str, np.ndarray]]], list[Missing]]:
    """Measure a clip's rows: values, what they add to distributions of motion, and the frames without a face."""
    real, floor = rows["real"][0], floor_view(clip.real, judges, protocol)
    first = rows["still"][0].embeddings  # known even where the real clip shows its face too seldom
    source = None if first is None else first[0]
    values: dict[str, float] = {}
    motion: dict[str, list[dict[str, np.ndarray]]] = {}
    missing = []
    for row, views in rows.items():
        for view in views:
            if view.faceless:
                rest = "have no value, as these are over a tenth" if view.unseen else "leave these frames out"
                what = f"{row}: {view.faceless} of {len(view)} frames"
                missing.append(entry(clip.files.name, what, f"no face found; the measures of faces {rest}"))
        takes = tuple(views)
        contexts = [FrameContext(protocol, judges, view, real, source, floor, takes) for view in views]
        measures = of_kind("frames", judges) + (of_kind("free", judges) if row in plan.free else [])
        aligned = of_kind("aligned", judges) if row in plan.aligned else []
        found = mean_over_takes(
            [values_of(measures, c) | values_of(aligned, c.part(slice(1, None))) for c in contexts]
        )
        values |= {plan.name(name, row): value for name, value in found.items()}
        if row == "generated" and row in plan.free and len(views) > 1:
            values |= values_of(of_kind("takes", judges), contexts[0])
        motion[row] = [{one.name: one.ask(c) for one in of_kind("motion", judges)} for c in contexts]
    return values, motion, missing


def sync_scores(
    judges: Judges,
    rows: dict[str, list[View]],
    waveform: np.ndarray,
    foreign: np.ndarray | None,
    protocol: Protocol,
) -> tuple[dict[str, float], dict[str, list[str]]]:
    """Values of the judge of lips and sound for each row of a clip, and the rows without, by the reason.

    Args:
        judges: At hand.
        rows: The views of each row.
        waveform: ``(640 T,)`` the clip's speech.
        foreign: Likewise, of another voice, that the takes are held against for ``shuffled``; None: there is none.
        protocol: Settings.
    """
    values: dict[str, float] = {}
    absent: dict[str, list[str]] = {}
    sync = judges.sync
    if sync is None:
        return {}, {}
    for row in SPEECH_ROWS:
        names, sounds = [row], [waveform]
        if row == "generated" and foreign is not None:
            names, sounds = [row, "shuffled"], [waveform, foreign]
        try:
            takes = [sync(view.frames, view.points, sounds, protocol) for view in rows.get(row, [])]
        except ValueError as error:  # too short, or no track of a face
            absent.setdefault(str(error), []).append(row)
            continue
        for place, name in enumerate(names if takes else ()):
            found = mean_over_takes([take[place] for take in takes])
            values |= {f"{key}{suffix(name)}": value for key, value in found.items()}
    return values, absent


def add_truth(
    judged: JudgedClip,
    clip: RenderedClip,
    rows: dict[str, list[View]],
    judges: Judges,
    protocol: Protocol,
    plan: RowPlan,
) -> list[Missing]:
    """Add what only annotated clips know: lips against the true ones, errors in the boxes of mouth and eyes."""
    assert clip.truth is not None
    true = clip.truth.lip_opening
    true = rows["real"][0].seen.lip_opening if true is None else true
    for row, views in rows.items():
        lips = [view.curves.lip_opening for view in views]
        contexts = [SpeechContext(protocol, take, take, true_lips=true) for take in lips]
        found = mean_over_takes([values_of(of_kind("truth", judges), context) for context in contexts])
        judged.values |= {plan.name(name, row): value for name, value in found.items()}
        curves = [lagged_correlation(take, true[: len(take)], protocol.lags).curve for take in lips]
        judged.lag_curves[row] = np.mean(curves, axis=0)
    if "psnr_still" in judged.values:
        judged.values["psnr_gain"] = judged.values["psnr"] - judged.values["psnr_still"]
    if clip.truth.regions is None:
        return [entry(clip.files.name, "mouth_error_removed, eye_error_removed", "no regions are annotated")]
    boxes = torch.from_numpy(clip.truth.regions[1 : len(clip)])
    for row in ("autoencoder", "still"):  # the source frame itself is left out
        errors = region_errors(rows[row][0].frames[1:], rows["real"][0].frames[1:], boxes)
        judged.region_sums |= dict(zip((f"mouth_{row}", f"eye_{row}"), errors.tolist(), strict=True))
    return []


def judge_clip(
    clip: RenderedClip, judges: Judges, protocol: Protocol, plan: RowPlan
) -> tuple[JudgedClip, dict[str, list[View]], list[Missing]]:
    """All that one clip says, except what needs the others: the values, the views of each row, and what is missing."""
    name = clip.files.name
    whole = judges.look(clip.whole, protocol)
    rows = see_rows(clip, whole, judges, protocol)
    values, motion, missing = measure_rows(clip, rows, judges, protocol, plan)
    lips = {row: [view.curves.lip_opening for view in views] for row, views in rows.items()}
    speech = ClipSpeech(clip.files, clip.sound, whole.curves.lip_opening, lips, clip.foreign)
    by_sound, by_lips = (
        ", ".join(one.name for one in MEASURES.values() if one.kind == kind) for kind in ("sound", "lips")
    )
    if clip.waveform is None:
        missing.append(entry(name, f"{by_lips}, {by_sound}", clip.silence))
    else:
        if clip.foreign is None:
            missing.append(entry(name, "row shuffled", "no clip with sound of another voice"))
        foreign = None if clip.foreign is None else clip.foreign.waveform
        scores, absent = sync_scores(judges, rows, clip.waveform, foreign, protocol)
        values |= scores
        missing += [entry(name, f"{by_sound} of {', '.join(of)}", why) for why, of in absent.items()]
    judged = JudgedClip(clip.files, speech, {**values, **clip.facts}, motion)
    if clip.truth is not None:
        missing += add_truth(judged, clip, rows, judges, protocol, plan)
    return judged, rows, missing


class Pools:
    """What is judged over all clips at once: FID, KID and FVD.

    Args:
        data: All clips, whose lengths the windows are drawn from.
        judges: At hand.
        protocol: Settings.
    """

    def __init__(self, data: ClipSet, judges: Judges, protocol: Protocol) -> None:
        self.pools: dict[str, RowDistances] = {}
        for kind, network, what in (
            ("pictures", judges.inception, "frames"),
            ("windows", judges.i3d, "windows"),
        ):
            if network is not None:
                width: Any = network.num_features
                distances = {
                    one.name: one.new_pool(protocol, width) for one in MEASURES.values() if one.kind == kind
                }
                self.pools[kind] = RowDistances(network, distances, what)
        self.length = protocol.fvd.length
        lengths = [clip.length() for clip in data.judged] if "windows" in self.pools else []
        self.starts = window_starts(lengths, protocol) or [[] for _ in data.judged]

    def update(self, rows: dict[str, list[View]], identity: str, place: int) -> None:
        """Add a clip's rows; last of all, as nothing can be forgotten of a clip that fails afterwards."""
        for row in POOLED_ROWS:
            for take, view in enumerate(rows.get(row, [])):
                if "pictures" in self.pools:
                    self.pools["pictures"].update(view.frames.split(_BATCH), row, identity, take)
                if "windows" in self.pools:
                    ends = ((start, start + self.length) for start in self.starts[place])
                    parts = [view.frames[None, start:end] for start, end in ends if end <= len(view)]
                    self.pools["windows"].update(parts, row, identity, take)


def window_starts(lengths: Sequence[int], protocol: Protocol) -> list[list[int]]:
    """First frames of the windows for FVD in clips of so many frames."""
    starts: list[list[int]] = [[] for _ in lengths]
    most = protocol.reading.max_frames
    lengths = [min(length, most) if most else length for length in lengths]
    if lengths and max(lengths) >= protocol.fvd.length:
        for clip, start in draw_windows(lengths, protocol.fvd):
            starts[clip].append(start)
    return starts


@dataclass
class Judgement:
    """What a loop over clips found.

    Attributes:
        judged: The clips.
        missing: What could not be judged.
        notes: Remarks.
        pools: What is judged over all clips at once.
    """

    judged: list[JudgedClip]
    missing: list[Missing]
    notes: list[str]
    pools: Pools


def judge_clips(
    clips: Iterable[RenderedClip],
    data: ClipSet,
    protocol: Protocol,
    judges: Judges,
    plan: RowPlan,
    progress: Progress | None = None,
) -> Judgement:
    """Judge all clips; what fails is listed and the others go on.

    Args:
        clips: The clips of ``data``, in their order.
        data: All clips; what speech does to lips is learnt from spare ones and from those whose rows can't be judged, too.
        protocol: Settings.
        judges: At hand.
        plan: Which rows are compared how.
        progress: Called with clips done, clips in all and a text.
    """
    found = Judgement([], [], [], Pools(data, judges, protocol))
    failed: list[ClipFiles] = []
    resized: dict[str, list[str]] = {}
    for place, clip in enumerate(clips):
        files = clip.files
        try:
            if clip.failure:
                raise ValueError(clip.failure)
            judged, rows, missing = judge_clip(clip, judges, protocol, plan)
            found.pools.update(rows, files.identity, place)
        except CLIP_FAILURES as error:
            log.warning("clip %s is left out: %s", files.name, error)
            found.missing.append(entry(files.name, "all", str(error)))
            failed.append(replace(files, takes=()))
        else:
            found.judged.append(judged)
            found.missing += [*clip.missing, *missing]
            if clip.resized:
                height, width = clip.whole.shape[1:3]
                resized.setdefault(f"{clip.resized} to {width}x{height}", []).append(files.name)
        if progress:
            progress(place + 1, len(data.judged), f"evaluating {files.name}")
    spares = read_speech([*failed, *data.spare], protocol, judges)
    regressors = LipRegressors([*(one.speech for one in found.judged), *spares], protocol.regression)
    by_lips = ", ".join(one.name for one in of_kind("lips", judges))
    for one in found.judged:
        values, one.fitted, why = regression_scores(one.speech, regressors, protocol, judges)
        one.values |= values
        if why and one.speech.sound is not None:
            found.missing.append(entry(one.files.name, by_lips, why))
    pairs = [(one.speech, one.values) for one in found.judged]
    found.missing += add_closures(pairs, data.all, protocol, judges)
    found.notes += [f"resized from {sizes}: {', '.join(names)}" for sizes, names in resized.items()]
    return found
