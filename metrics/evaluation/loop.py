"""One loop over rendered clips, whoever rendered them: every row looked at, every measure asked, what fails is listed."""

import logging
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from datamodules.media.video import read_video, write_video
from metrics.evaluation.clips import CLIP_FAILURES, ClipFiles, ClipSet, Missing, by_reason, entry
from metrics.evaluation.contexts import FrameContext, SpeechContext
from metrics.evaluation.judges import Judges, Progress
from metrics.evaluation.loading import RenderedClip
from metrics.evaluation.protocol import Protocol
from metrics.evaluation.registry import MEASURES, of_kind, values_of
from metrics.evaluation.row_distances import Pools
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
from metrics.motion import lagged_correlation
from metrics.reconstruction import region_errors

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowPlan:
    """Which rows are compared how."""

    aligned: tuple[str, ...]  # rows that are compared with the real clip frame by frame
    free: tuple[str, ...]  # rows that are judged as free generation
    aligned_home: str = "generated"  # row whose frame-by-frame measures have bare names

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
class JudgedClip(ClipSpeech):
    """What is kept of a clip once its frames are gone."""

    # row -> what each take adds to the distributions of motion, by measure
    motion: dict[str, list[dict[str, np.ndarray]]] = field(default_factory=dict)
    fitted: int = 0  # number of clips that the regression from speech to lips was fitted on, once it was
    # squared errors of regions, which are pooled over clips before a share is formed
    region_sums: dict[str, float] = field(default_factory=dict)
    # row -> correlation with the true lips at every lag
    lag_curves: dict[str, np.ndarray] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)  # what of it could not be judged


def through_codec(frames: np.ndarray, crf: int) -> np.ndarray:
    """The frames after H.264."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, frames, crf=crf)
        return read_video(path)[: len(frames), : frames.shape[1], : frames.shape[2]]


def floor_view(frames: np.ndarray, judges: Judges, protocol: Protocol) -> View | None:
    """The still source frame of ``(T, H, W, 3)`` uint8 through the codec, where landmarks are judged."""
    if "landmarks" not in judges.hashes:
        return None
    still = np.repeat(frames[:1], min(protocol.jitter_floor.frames, len(frames)), axis=0)
    return judges.look(through_codec(still, protocol.codec.crf), protocol)


def judge_clip(
    clip: RenderedClip, judges: Judges, protocol: Protocol, plan: RowPlan
) -> tuple[JudgedClip, dict[str, list[View]]]:
    """All that one clip says, except what needs the others; and the views of each row."""
    whole = judges.look(clip.whole, protocol)
    coded = through_codec(clip.real, protocol.codec.crf)
    rows = {"real": [whole.first(len(clip))], "codec": [judges.look(coded, protocol)]}
    for row, takes in clip.rows.items():
        rows[row] = [judges.look(take, protocol) for take in takes]
    rows["still"] = [whole.still(len(clip))]
    lips = {row: [view.curves.lip_opening for view in views] for row, views in rows.items()}
    judged = JudgedClip(clip.files, clip.sound, whole.curves.lip_opening, lips, clip.foreign)
    _measure_rows(judged, rows, floor_view(clip.real, judges, protocol), judges, protocol, plan)
    _measure_sync(judged, clip, rows, judges, protocol)
    judged.values |= clip.facts
    if clip.truth is not None:
        _add_truth(judged, clip, rows, judges, protocol, plan)
    return judged, rows


def _measure_rows(
    judged: JudgedClip,
    rows: dict[str, list[View]],
    floor: View | None,
    judges: Judges,
    protocol: Protocol,
    plan: RowPlan,
) -> None:
    """Add what the rows' frames say: values, motion, and where there is no face."""
    source = rows["real"][0].source
    for row, views in rows.items():
        for view in views:
            if view.faceless:
                rest = "have no value, as these are over a tenth" if view.unseen else "leave these frames out"
                what = f"{row}: {view.faceless} of {len(view)} frames"
                why = f"no face found; the measures of faces {rest}"
                judged.missing.append(entry(judged.files.name, what, why))
        takes, real = tuple(views), rows["real"][0]
        contexts = [FrameContext(protocol, judges, view, real, source, floor, takes) for view in views]
        measures = of_kind("frames", judges) + (of_kind("free", judges) if row in plan.free else [])
        aligned = of_kind("aligned", judges) if row in plan.aligned else []
        found = mean_over_takes(
            [values_of(measures, c) | values_of(aligned, c.part(slice(1, None))) for c in contexts]
        )
        judged.values |= {plan.name(name, row): value for name, value in found.items()}
        if row == "generated" and row in plan.free and len(views) > 1:
            judged.values |= values_of(of_kind("takes", judges), contexts[0])
        judged.motion[row] = [{one.name: one.ask(c) for one in of_kind("motion", judges)} for c in contexts]


def _measure_sync(
    judged: JudgedClip, clip: RenderedClip, rows: dict[str, list[View]], judges: Judges, protocol: Protocol
) -> None:
    """Add what the judge of lips and sound says, or why it says nothing."""
    name = clip.files.name
    by_sound, by_lips = (
        ", ".join(one.name for one in MEASURES.values() if one.kind == kind) for kind in ("sound", "lips")
    )
    if clip.waveform is None:
        judged.missing.append(entry(name, f"{by_lips}, {by_sound}", clip.silence))
        return
    if clip.foreign is None:
        judged.missing.append(entry(name, "row shuffled", "no clip with sound of another voice"))
    foreign = None if clip.foreign is None else clip.foreign.waveform
    scores, absent = sync_scores(judges, rows, clip.waveform, foreign, protocol)
    judged.values |= scores
    judged.missing += by_reason(name, absent, f"{by_sound} of ")


def sync_scores(
    judges: Judges,
    rows: dict[str, list[View]],
    waveform: np.ndarray,
    foreign: np.ndarray | None,
    protocol: Protocol,
) -> tuple[dict[str, float], dict[str, str]]:
    """Values of the judge of lips and sound for each row of a clip, and why there is none for other rows.

    Args:
        judges: At hand.
        rows: The views of each row.
        waveform: ``(640 T,)`` the clip's speech.
        foreign: Likewise, of another voice, that the takes are held against for ``shuffled``; None: there is none.
        protocol: Settings.
    """
    values: dict[str, float] = {}
    absent: dict[str, str] = {}
    if judges.sync is None:
        return {}, {}
    for row in SPEECH_ROWS:
        names, sounds = [row], [waveform]
        if row == "generated" and foreign is not None:
            names, sounds = [row, "shuffled"], [waveform, foreign]
        try:
            takes = [judges.sync(view.frames, view.points, sounds, protocol) for view in rows.get(row, [])]
        except ValueError as error:  # too short, or no track of a face
            absent[row] = str(error)
            continue
        for place, name in enumerate(names if takes else ()):
            found = mean_over_takes([take[place] for take in takes])
            values |= {f"{key}{suffix(name)}": value for key, value in found.items()}
    return values, absent


def _add_truth(
    judged: JudgedClip,
    clip: RenderedClip,
    rows: dict[str, list[View]],
    judges: Judges,
    protocol: Protocol,
    plan: RowPlan,
) -> None:
    """Add what only annotated clips know: lips against the true ones, errors in the boxes of mouth and eyes."""
    assert clip.truth is not None
    true = clip.truth.lip_opening
    true = rows["real"][0].seen.lip_opening if true is None else true
    for row, lips in judged.lips.items():
        contexts = [SpeechContext(protocol, take, take, true_lips=true) for take in lips]
        found = mean_over_takes([values_of(of_kind("truth", judges), context) for context in contexts])
        judged.values |= {plan.name(name, row): value for name, value in found.items()}
        curves = [lagged_correlation(take, true[: len(take)], protocol.lags).curve for take in lips]
        judged.lag_curves[row] = np.mean(curves, axis=0)
    if "psnr_still" in judged.values:
        judged.values["psnr_gain"] = judged.values["psnr"] - judged.values["psnr_still"]
    if clip.truth.regions is None:
        what = "mouth_error_removed, eye_error_removed"
        judged.missing.append(entry(clip.files.name, what, "no regions are annotated"))
        return
    boxes = torch.from_numpy(clip.truth.regions[1 : len(clip)])
    for row in (
        ("autoencoder", "still") if "autoencoder" in rows else ()
    ):  # the source frame itself is left out
        errors = region_errors(rows[row][0].frames[1:], rows["real"][0].frames[1:], boxes)
        judged.region_sums |= dict(zip((f"mouth_{row}", f"eye_{row}"), errors.tolist(), strict=True))


@dataclass
class Judgement:
    """What a loop over clips found: clips, what could not be judged, remarks, and what is judged over all clips at once."""

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
    """Judge all clips of ``data``, which come in their order; what fails is listed and the others go on.

    What speech does to lips is learnt from spare clips and from those whose rows can't be judged, too.
    """
    found = Judgement([], [], [], Pools(data, judges, protocol))
    failed: list[ClipFiles] = []
    resized: dict[str, list[str]] = {}
    for place, clip in enumerate(clips):
        files = clip.files
        try:
            if clip.failure:
                raise ValueError(clip.failure)
            judged, rows = judge_clip(clip, judges, protocol, plan)
            found.pools.update(rows, files.identity, place)
        except CLIP_FAILURES as error:
            log.warning("clip %s is left out: %s", files.name, error)
            found.missing.append(entry(files.name, "all", str(error)))
            failed.append(replace(files, takes=()))
        else:
            found.judged.append(judged)
            found.missing += [*clip.missing, *judged.missing]
            if clip.resized:
                height, width = clip.whole.shape[1:3]
                resized.setdefault(f"{clip.resized} to {width}x{height}", []).append(files.name)
        if progress:
            progress(place + 1, len(data.judged), f"evaluating {files.name}")
    spares = read_speech([*failed, *data.spare], protocol, judges)
    regressors = LipRegressors([*found.judged, *spares], protocol.regression)
    by_lips = ", ".join(one.name for one in of_kind("lips", judges))
    for one in found.judged:
        values, one.fitted, why = regression_scores(one, regressors, protocol, judges)
        one.values |= values
        if why and one.sound is not None:
            found.missing.append(entry(one.files.name, by_lips, why))
    found.missing += add_closures(found.judged, data.all, protocol, judges)
    found.notes += [f"resized from {sizes}: {', '.join(names)}" for sizes, names in resized.items()]
    return found
