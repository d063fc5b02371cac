"""The evaluation of rendered clips, whoever rendered them: one code path and one form of result."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from metrics.distributions import FEW_FRAMES
from metrics.evaluation.aggregate import aggregate, clips_without_value, lag_curves, without_value
from metrics.evaluation.clips import ClipSet, Missing, by_reason
from metrics.evaluation.judges import Judges, Progress
from metrics.evaluation.loading import RenderedClip
from metrics.evaluation.loop import JudgedClip, RowPlan, judge_clips
from metrics.evaluation.protocol import Protocol
from metrics.evaluation.reading import SYNTHETIC, TALKING_HEAD, short_hash
from metrics.evaluation.registry import MEASURES, measure_hashes, measures_of, row_hashes

SEEN = ("yaw", "pitch", "roll", "lip_opening", "blink")
"""What measures of motion are made of, by the names that a fitted judge has for it."""
LOST = "the method's face is missing in more than a tenth of the frames"
WEAK = 0.5
"""Share of variance below which a fitted judge of motion is called weak."""
SHORT_SPEECH = 75
"""Frames below which the best of 31 lags is often no higher for a clip's own speech than for foreign speech."""
FEW_FITTED = 5
"""Clips below which a regression from speech to lips is called fitted on too few."""
DRAWN = f"some of the real clips are synthetic heads, which judges of real faces do not know: take --protocol {SYNTHETIC}"
RECORDED = (
    f"the real clips are no synthetic heads of this project, which the judge of lip sync of {SYNTHETIC} was trained on: take "
    f"--protocol {TALKING_HEAD} for real faces"
)


def evaluate(
    clips: Iterable[RenderedClip],
    data: ClipSet,
    protocol: Protocol,
    judges: Judges,
    plan: RowPlan,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Judge the rendered clips of ``data``, which come in their order: of a model, of a folder of videos, ...

    Returns:
        The content of results.json but ``method`` and ``run``. Metrics without a suffix belong to the row they are meant
        for, ``NAME_ROW`` to another row. ``protocol`` holds its ``name``, the hashes of ``measures`` and ``rows``, the
        identity of the ``data``, the hash of their ``files``' bytes, one ``hash`` over name, data and the task's measures,
        and the ``settings``.
    """
    judges = with_data(judges, data)
    record = protocol_record(protocol, data, judges, plan)
    found = judge_clips(clips, data, protocol, judges, plan, progress)
    judged, missing = found.judged, [*absent_judges(judges), *found.missing]
    notes, metrics = _hints(protocol, data) + found.notes, {}
    if judged:
        metrics = aggregate(judged, protocol, judges)
        notes += _remarks(judged, judges, len(data.judged))
        for pool in found.pools.pools.values():
            values, remarks = pool.compute()
            metrics, notes = metrics | values, notes + remarks
        missing += without_value(metrics, protocol) + clips_without_value(judged, metrics)
    results = {
        "protocol": record,
        "metrics": {name: interval.as_dict() for name, interval in metrics.items()},
        "clips": [{"clip": one.files.name, "identity": one.files.identity, **one.values} for one in judged],
        "missing": missing,
        "notes": notes,
    }
    curves = lag_curves(judged)
    return {**results, "lag_curves": curves} if curves else results


def with_data(judges: Judges, data: ClipSet) -> Judges:
    """The judges and, among them, what the data themselves know: phones and the truth of annotated clips."""
    hashes = dict(judges.hashes)
    if (phones := data.phones_hash()) is not None:
        hashes["phones"] = phones
    if any(clip.annotations for clip in data.judged):
        hashes["truth"] = data.files_hash("annotations")
    return replace(judges, hashes=hashes)


def protocol_record(protocol: Protocol, data: ClipSet, judges: Judges, plan: RowPlan) -> dict[str, Any]:
    """By what is judged: results whose hashes of a measure and identities of the data are equal may be ranked by it."""
    ranked = measure_hashes(measures_of(protocol.task), protocol, judges.hashes)
    known = measures_of("generation") + measures_of("reconstruction") if plan.aligned and plan.free else []
    known += [one for one in MEASURES.values() if one.family == "model" and one.settings] if known else []
    identity = data.identity(protocol.reading)
    return {
        "name": protocol.name,
        "hash": short_hash({"name": protocol.name, "data": identity, "measures": ranked}),
        "data": identity,
        "files": data.files_hash("reference", "speech", "phones", "annotations"),
        "measures": {**ranked, **measure_hashes(known, protocol, judges.hashes)},
        "rows": row_hashes(protocol),
        "settings": protocol.settings(),
    }


def absent_judges(judges: Judges) -> list[Missing]:
    """The measures whose judge is not there, and why."""
    whys = {}
    for one in MEASURES.values():
        slot = next((slot for slot in one.judges if slot in judges.absent), None)
        if slot is not None and not one.base:
            whys[one.name] = judges.absent[slot]
    return by_reason("*", whys)


def _hints(protocol: Protocol, data: ClipSet) -> list[str]:
    """What speaks against the protocol, if its judges are out of their field on these clips."""
    drawn = any(clip.drawn for clip in data.judged)
    return [] if drawn == (protocol.name == SYNTHETIC) else [DRAWN if drawn else RECORDED]


def _remarks(judged: Sequence[JudgedClip], judges: Judges, asked: int) -> list[str]:
    """What a reader must know before believing the values."""
    notes = []
    if len(judged) < asked:
        notes.append(f"{len(judged)} of {asked} clips judged: rank only beside results of the same clips")
    if len({one.files.identity for one in judged}) == 1:
        notes.append("one identity: nothing is known of how far the values hold for other people")
    notes += _face_remarks(judged) + _speech_remarks(judged)
    few = sum(len(one.motion["generated"][0].get("motion_frechet", ())) for one in judged)
    if 0 < few < FEW_FRAMES:
        notes.append(f"motion_frechet: {few} frames, too few (under {FEW_FRAMES})")
    scores = judges.facts.get("held_out_r2") or {}
    weak = [f"{name} {score:.2f}" for name, score in scores.items() if name in SEEN and score < WEAK]
    if weak:
        notes.append(
            f"the judge of motion is weak on people that it never saw (share of variance explained): {', '.join(weak)}"
        )
    return notes


def _face_remarks(judged: Sequence[JudgedClip]) -> list[str]:
    """Where faces are not seen."""
    notes, lost, unseen = [], [], []
    for one in judged:
        if not np.isfinite(one.values["mouth_motion_real"]):
            unseen.append(one.files.name)
        elif not np.isfinite(one.values["mouth_motion"]):
            lost.append(one.files.name)
    if unseen:
        notes.append(
            f"the real face is missing in more than a tenth of the frames, in {', '.join(unseen)}: what the method is given "
            "of them has no real value beside it"
        )
    if lost and len(lost) + len(unseen) == len(judged):
        notes.append(f"{LOST}, in every clip: measures of faces have no value")
    elif lost:
        notes.append(
            f"{LOST}, in {', '.join(lost)}: measures of faces are of the other clips, which may be easier ones and fewer "
            "than those of the real row (see n); do not rank them beside results of all clips"
        )
    return notes


def _speech_remarks(judged: Sequence[JudgedClip]) -> list[str]:
    """How far the regression from speech to lips can be trusted."""
    fitted = [one for one in judged if one.fitted]
    still = [  # seen, and hardly moving where the real lips speak
        one.files.name
        for one in fitted
        if np.isfinite([one.values["mouth_motion"], one.values["av_corr_zero_real"]]).all()
        and not np.isfinite(one.values["av_corr_zero"])
    ]
    notes = []
    if still and len(still) == len(fitted):
        notes.append("the method's lips hardly move in any clip: av_* have no value")
    elif still:
        notes.append(
            f"the method's lips hardly move in {', '.join(still)}: av_* are of the other clips; do not rank them beside "
            "results of all clips"
        )
    least = min([one.fitted for one in fitted], default=FEW_FITTED)
    if least < FEW_FITTED:
        notes.append(
            f"av_*: the regression was fitted on too few clips ({least}, under {FEW_FITTED}); compare with av_*_real"
        )
    short = sum(len(one.lips["generated"][0]) < SHORT_SPEECH for one in fitted)
    if short:
        notes.append(
            f"av_corr, av_lag: {short} of the clips last under {SHORT_SPEECH} frames, in which the best of 31 lags is "
            "high by chance too; take av_corr_zero"
        )
    return notes
