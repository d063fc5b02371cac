"""One clip: every row looked at by the judges of frames and of sound, every measure of them asked."""

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from datamodules.media.video import read_video, write_video
from metrics.av_correlation import SpokenClip
from metrics.evaluation.clip_results import SPEECH_ROWS, ClipResult, RowFamilies, mean_over_takes, suffix
from metrics.evaluation.clips import CLIP_FAILURES, Missing, by_reason, entry
from metrics.evaluation.detections import Detections
from metrics.evaluation.inputs import FrameInputs, SpeechInputs
from metrics.evaluation.judges import Judges, Progress
from metrics.evaluation.loading import RenderedClip
from metrics.evaluation.protocol import Protocol
from metrics.evaluation.protocol_names import FREE
from metrics.evaluation.registry import names_of_kind, of_kind, values_of
from metrics.motion import lagged_correlation
from metrics.reconstruction import region_errors

Rows = dict[str, list[Detections]]
"""Row -> what is detected in each of its takes."""
Found = TypeVar("Found")
log = logging.getLogger(__name__)


def each_clip(
    clips: Iterable[RenderedClip],
    measure: Callable[[RenderedClip], Found],
    missing: list[Missing],
    progress: Progress | None = None,
    total: int = 0,
    doing: str = "",
) -> Iterator[tuple[RenderedClip, Found]]:
    """The clips and what is measured of each; one that fails is added to ``missing``, and the others go on.

    ``progress`` is told once a clip is done with, of ``total``, and what was ``doing``.
    """
    for number, clip in enumerate(clips, start=1):
        try:
            if clip.failure:
                raise ValueError(clip.failure)
            found = measure(clip)
        except CLIP_FAILURES as error:
            log.warning("clip %s is left out: %s", clip.files.name, error)
            missing.append(entry(clip.files.name, "all", str(error) or type(error).__name__))
        else:
            yield clip, found
        if progress:
            progress(number, total, f"{doing} {clip.files.name}")


def through_codec(frames: np.ndarray, crf: int) -> np.ndarray:
    """The frames after H.264."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, frames, crf=crf)
        return read_video(path)[: len(frames), : frames.shape[1], : frames.shape[2]]


def still_detections(frames: np.ndarray, judges: Judges, protocol: Protocol) -> Detections | None:
    """The still source frame of ``(T, H, W, 3)`` uint8 through the codec, where landmarks are judged."""
    if "landmarks" not in judges.hashes:
        return None
    still = np.repeat(frames[:1], min(protocol.jitter_floor.frames, len(frames)), axis=0)
    return judges.detect(through_codec(still, protocol.codec.crf), protocol)


def measure_clip(
    clip: RenderedClip, judges: Judges, protocol: Protocol, families: RowFamilies
) -> tuple[ClipResult, Rows]:
    """All that one clip says, except what needs the others; and what is detected in its rows."""
    files, rows = clip.files, {}
    if protocol.task == FREE:
        whole = judges.detect(np.copy(clip.whole[:1]), protocol).still(len(clip))
    else:
        whole = judges.detect(clip.whole, protocol)
        coded = through_codec(clip.real, protocol.codec.crf)
        rows = {"real": [whole.first(len(clip))], "codec": [judges.detect(coded, protocol)]}
    rows |= {row: [judges.detect(take, protocol) for take in takes] for row, takes in clip.rows.items()}
    rows["still"] = [whole.still(len(clip))]
    lips = {row: [take.motion.lip_opening for take in takes] for row, takes in rows.items()}
    result = ClipResult(files, lips, foreign=clip.foreign, resized=clip.resized, missing=[*clip.missing])
    if clip.sound is not None:
        result.spoken = SpokenClip(files.identity, files.voice, clip.sound, whole.motion.lip_opening)
    _measure_frames(result, rows, still_detections(clip.real, judges, protocol), judges, protocol, families)
    _measure_sync(result, rows, clip, judges, protocol)
    result.values |= clip.facts
    if clip.truth is not None:
        _measure_truth(result, rows, clip, judges, protocol, families)
    return result, rows


def _measure_frames(
    result: ClipResult,
    rows: Rows,
    floor: Detections | None,
    judges: Judges,
    protocol: Protocol,
    families: RowFamilies,
) -> None:
    """Add what the rows' frames say, and where there is no face."""
    real, task = rows.get("real", rows["still"])[0], protocol.task
    for row, takes in rows.items():
        for take in takes:
            if take.faceless:
                rest = "have no value, as these are over a tenth" if take.unseen else "leave these frames out"
                what = f"{row}: {take.faceless} of {len(take)} frames"
                why = f"no face found; the measures of faces {rest}"
                result.missing.append(entry(result.files.name, what, why))
        inputs = [
            FrameInputs(protocol, judges, take, real, real.source, floor, tuple(takes)) for take in takes
        ]
        free, paired = row in families.generation, row in families.reconstruction
        wholes = of_kind("row", judges, task) + of_kind("portrait", judges, task)
        wholes += of_kind("clip_pair", judges, task) if free else []
        pairs = of_kind("frame_pairs", judges) if paired else []
        found = [values_of(wholes, one) | values_of(pairs, one.part(slice(1, None))) for one in inputs]
        named = {families.name(name, row): value for name, value in mean_over_takes(found).items()}
        result.values |= named
        if row == "generated" and free and len(takes) > 1:
            result.values |= values_of(of_kind("seeds", judges), inputs[0])
        asked = of_kind("distribution", judges, task)
        result.distributions[row] = [{measure.name: measure.ask(one) for measure in asked} for one in inputs]


def _measure_sync(
    result: ClipResult, rows: Rows, clip: RenderedClip, judges: Judges, protocol: Protocol
) -> None:
    """Add what the judge of lips and sound says, or why it says nothing.

    The takes are held against the clip's sound, and as the row shuffled against foreign speech.
    """
    name, by_sync = clip.files.name, names_of_kind("syncnet")
    if clip.waveform is None:
        result.missing.append(entry(name, f"{names_of_kind('speech')}, {by_sync}", clip.silence))
        return
    if clip.foreign is None:
        result.missing.append(entry(name, "row shuffled", "no clip with sound of another voice"))
    whys = {}
    for row in SPEECH_ROWS if judges.sync is not None else ():
        sounds = {row: clip.waveform}
        if row == "generated" and clip.foreign is not None:
            sounds["shuffled"] = clip.foreign.waveform
        heard = list(sounds.values())
        try:
            takes = [judges.sync(one.frames, one.landmarks, heard, protocol) for one in rows.get(row, [])]  # type: ignore[misc]
        except ValueError as error:  # too short, or no track of a face
            whys[row] = str(error)
            continue
        for place, name_ in enumerate(sounds):
            found = mean_over_takes([take[place] for take in takes])
            result.values |= {f"{key}{suffix(name_)}": value for key, value in found.items()}
    result.missing += by_reason(name, whys, f"{by_sync} of ")


def _measure_truth(
    result: ClipResult,
    rows: Rows,
    clip: RenderedClip,
    judges: Judges,
    protocol: Protocol,
    families: RowFamilies,
) -> None:
    """Add what only annotated clips know: lips against the true ones, errors in the boxes of mouth and eyes."""
    assert clip.truth is not None
    true, real = clip.truth.lip_opening, rows["real"][0]
    true = real.raw_motion.lip_opening if true is None else true
    for row, lips in result.lips.items():
        inputs = [SpeechInputs(protocol, take, take, true_lips=true) for take in lips]
        found = mean_over_takes([values_of(of_kind("true_lips", judges), one) for one in inputs])
        result.values |= {families.name(name, row): value for name, value in found.items()}
        curves = [lagged_correlation(take, true[: len(take)], protocol.lags).curve for take in lips]
        result.lag_curves[row] = np.mean(curves, axis=0)
    if "psnr_still" in result.values:
        result.values["psnr_gain"] = result.values["psnr"] - result.values["psnr_still"]
    if clip.truth.regions is None:
        what = "mouth_error_removed, eye_error_removed"
        result.missing.append(entry(clip.files.name, what, "no regions are annotated"))
        return
    boxes = torch.from_numpy(clip.truth.regions[1 : len(clip)])  # the source frame itself is left out
    for row in ("autoencoder", "still") if "autoencoder" in rows else ():
        errors = region_errors(rows[row][0].frames[1:], real.frames[1:], boxes)
        result.region_sums |= dict(zip((f"mouth_{row}", f"eye_{row}"), errors.tolist(), strict=True))
