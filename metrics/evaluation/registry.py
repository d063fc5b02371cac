"""Every measure by one entry: what it is called, what it says, what computes it and what its number hangs on.

A new measure is a function beside the others and one line here; it changes the hash of no other. Its way from there to
``results.json``: its `Kind` says who asks it, `clip_measures` of a clip's rows, `speech` once all clips are seen or
`picture_distances` over all of them; these call `values_of`, which hands the function the attributes that ``call`` names;
a clip's values stand in its `ClipResult`, `aggregate` makes means with intervals of them, and `run.evaluate` writes these
beside the hash that `measure_hashes` gives.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from operator import attrgetter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from metrics.evaluation.protocol_names import FREE, short_hash

if TYPE_CHECKING:
    from torchmetrics import Metric

    from metrics.evaluation.judges import Judges
    from metrics.evaluation.protocol import Protocol

# "reconstruction" compares frame with frame and never judges free generation, where it would reward stillness;
# "generation" compares distributions or what a free head doesn't change; "identity", "sync" and "motion" hold for both;
# "model": only known where a model is asked; "portrait": only asked where there is no real video
Family = Literal["reconstruction", "generation", "identity", "sync", "motion", "model", "portrait"]
# "real": nearest to the real row's; "none": a fact, no merit
Better = Literal["higher", "lower", "real", "none"]
# Of what a measure is asked. It answers by a value, one a frame, or several by name, where nothing else is said.
Kind = Literal[
    "row",  # of the frames of each row by itself
    "frame_pairs",  # of a row's frames and the real ones, pair by pair, the source left out
    "clip_pair",  # of a row and the real clip as wholes
    "seeds",  # of the takes of all sampling seeds together
    "speech",  # of lips and the sound of speech
    "phones",  # of lips and the phones of speech
    "true_lips",  # of lips and the annotated ones
    "syncnet",  # what the judge `sync` says of frames and sound
    "distribution",  # of a row: samples (N, D), whose distribution over all clips is held against the real one by `metric`
    "pictures",  # features of all frames of all clips by the network of the measure's first judge, compared by `pool`
    "windows",  # features of windows of 16 frames, likewise
    "portrait",  # of a row's frames and the portrait, where there is no real clip
    "derived",  # made of other measures, or told by who renders
]
FREE_KINDS = ("row", "portrait", "syncnet", "speech")
"""What is asked where there is no real video; lips go by a regression that was fitted elsewhere."""
_CHUNK = 16
Call = tuple[str, ...]
"""A function or class as ``module:name``, and what it is given: attributes of its inputs, ``protocol.`` its settings."""


@dataclass(frozen=True)
class Measure:
    """What a number in a result is, and how it comes about."""

    name: str  # in results; rows but the method's own have a suffix (csim_real)
    title: str  # for people
    unit: str  # what it is counted in; %: a share, shown times 100
    better: Better
    family: Family
    kind: Kind
    meaning: str  # one sentence or two for the reader of a report
    # what computes it, of `FrameInputs` (of lips: `SpeechInputs`); none: the metric, over pictures
    call: Call = ()
    # further settings that the number hangs on: fields of `Protocol` that the judges or detections were given
    through: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()  # slots of `Judges` that it hangs on
    metric: Call = ()  # a metric of torchmetrics, of protocol and judges; none: the mean over clips
    pool: Call = ()  # distance of features by identity, of protocol and the features' width
    unknown: str = "no clip has a value"  # why it can be without a value although its judge is there
    shared: bool = False  # whether it is also given between the shuffled row and the real one
    base: str = ""  # for floors and shares: the measure that they belong to

    @property
    def settings(self) -> tuple[str, ...]:
        """Fields of `Protocol` that the number hangs on: those that are passed, and those of ``through``."""
        passed = (path.partition("protocol.")[2] for path in (*self.call, *self.metric, *self.pool))
        return tuple(sorted({*self.through, *filter(None, passed)}))

    def slots(self, task: str) -> tuple[str, ...]:
        """The judges that it hangs on in a task: without real clips a regression of speech can't be fitted on them."""
        return (*self.judges, "regression") if task == FREE and self.kind == "speech" else self.judges

    def ask(self, inputs: Any) -> Any:
        """What the function says of its inputs: a value, values by name, or rows of a distribution."""
        if not self.call:
            # Of one clip, which other processes don't have.
            metric = self.new_metric(inputs.protocol, inputs.judges, sync_on_compute=False)
            for start in range(0, len(inputs.row), _CHUNK):
                part = slice(start, start + _CHUNK)
                metric.update(inputs.row.frames[part], inputs.real.frames[part])
            return float(metric.compute())
        from metrics.base import known_mean  # torch is not loaded before something is measured

        found = _called(self.call, inputs)
        return found if isinstance(found, dict) or self.kind == "distribution" else known_mean(found)

    def new_metric(self, protocol: "Protocol", judges: "Judges", **options: Any) -> "Metric":
        """The metric over a whole set; options are torchmetrics'."""
        if self.metric:
            return _called(self.metric, SimpleNamespace(protocol=protocol, judges=judges), **options)
        from metrics.base import ClipMean

        return ClipMean(median=is_lag(self.name))

    def new_pool(self, protocol: "Protocol", width: int) -> Any:
        """The distance of features ``(N, width)``."""
        return _called(self.pool, SimpleNamespace(protocol=protocol, width=width))


def _called(call: Call, root: Any, **options: Any) -> Any:
    module, _, name = call[0].partition(":")
    function = getattr(importlib.import_module(f"metrics.{module}"), name)
    return function(*(attrgetter(path)(root) for path in call[1:]), **options)


# Settings that numbers hang on through what they are made of.
CLIPS = ("intervals",)
FACES = (*CLIPS, "faceless")
POINTS = (*FACES, "landmarks")
HELD = (*POINTS, "still_face")
EMBEDDED = (*POINTS, "alignment")
BOTH = ("row.landmarks", "real.landmarks")
TRUE_LIPS = ("evaluation.inputs:true_lips", "lips", "true_lips", "protocol.lags")
MEASURE_SYNC = (
    "av_correlation:measure_sync", "lips", "waveform", "regressor", "choice", "real", "protocol.av", "protocol.retrieval",
    "protocol.lip_range",
)  # fmt: skip
HEARD_SYNC = (
    "av_correlation:measure_heard_sync", "lips", "waveform", "by_listener", "real", "protocol.av", "protocol.lip_range",
)  # fmt: skip
HEARD = (*POINTS, "regression_by_listener")
SYNC = (*POINTS, "sync", "mfcc", "face_crops")
FITTED = (*POINTS, "regression")
SHARPNESS = ("sharpness:sharpness", "row.still_faces", "real.still_faces", "protocol.sharpness")
POOLED = ("evaluation.feature_pools:FrechetPool", "width", "protocol.pool", "protocol.intervals")
POOLED_KID = ("evaluation.feature_pools:KernelPool", "protocol.kid", "protocol.pool", "protocol.intervals")
NO_FACE = "the video or the real clip shows no face"
RESTING = "the lips hardly move beside the real ones, or one of the two shows in too few frames"
NO_WINDOW = f"{RESTING}; or fewer than 2 s of overlap at the best lag, or no other voice"
SHORT = "no clip is longer than a window of 64 frames, or no head moves"
TOO_FEW = "fewer than two frames on a side"
FLOOR_OF = "Between real clips and real clips of other people: below it nothing is told."
SHARE_OF = "0: like shuffled speech, 1: like real video."

_ENTRIES = (
    Measure("psnr", "PSNR", "dB", "higher", "reconstruction", "frame_pairs", "How close the reconstruction comes to the real frames, squared error of all frames but the source, mean over clips. Higher is better.", through=CLIPS, metric=("reconstruction:PSNR",), unknown="the frames equal the real ones, which has no finite value"),
    Measure("psnr_gain", "PSNR gain over the still source", "dB", "none", "model", "derived", "What the autoencoder adds to repeating the source frame.", through=CLIPS),
    Measure("mouth_error_removed", "Mouth error removed", "%", "none", "model", "derived", "Share of the still source's squared error that the reconstruction removes in the mouth box.", through=CLIPS, judges=("truth",)),
    Measure("eye_error_removed", "Eye error removed", "%", "none", "model", "derived", "The same in the boxes of the eyes.", through=CLIPS, judges=("truth",)),
    Measure("ssim", "SSIM", "", "higher", "reconstruction", "frame_pairs", "Structural similarity of the reconstruction to the real frames; 1 is equal.", through=CLIPS, metric=("reconstruction:SSIM",)),
    Measure("l1", "L1", "%", "lower", "reconstruction", "frame_pairs", "Mean absolute difference of the reconstruction, as a share of the 8-bit range. Lower is better.", through=CLIPS, metric=("reconstruction:L1",)),
    Measure("lpips", "LPIPS", "", "lower", "reconstruction", "frame_pairs", "Perceptual distance of the reconstruction (AlexNet, v0.1). Lower is better.", through=CLIPS, judges=("lpips",), metric=("lpips:LPIPS", "judges.lpips")),
    Measure("akd", "AKD", "pixels", "lower", "reconstruction", "frame_pairs", "Mean distance of the face's landmarks from the real ones, in a picture of 256 pixels. Lower is better.", call=("landmarks:keypoint_distance", *BOTH, "row.height", "row.width", "protocol.keypoints", "protocol.landmarks"), through=FACES, judges=("landmarks",)),
    Measure("aed", "AED", "", "lower", "reconstruction", "frame_pairs", "Distance of the face embeddings of reconstructed and real frames, 0 to 2. Lower is better.", call=("identity:embedding_distance", "row.embeddings", "real.embeddings"), through=EMBEDDED, judges=("landmarks", "embedder"), unknown="one of the two shows no face"),
    Measure("lmd", "LMD", "eye distances", "lower", "reconstruction", "frame_pairs", "Mean distance of the landmarks from the real ones, over the distance of the eyes. Lower is better.", call=("landmarks:landmark_distance", *BOTH, "protocol.landmarks"), through=FACES, judges=("landmarks",)),
    Measure("blinks_followed", "Blinks followed", "%", "higher", "reconstruction", "frame_pairs", "Share of the real blinks in which the lids shut, too. Higher is better.", call=("motion:blinks_followed", "row.motion.blink", "real.motion.blink", "protocol.blinks"), through=FACES, judges=("motion",), unknown="the real clip never blinks"),
    Measure("lip_corr", "Lip correlation, best lag", "", "none", "model", "true_lips", "Correlation of generated with true lip opening, each clip at its best lag within 10 frames either way; above 0 by chance even for foreign speech.", call=TRUE_LIPS, through=POINTS, judges=("motion", "truth")),
    Measure("lip_corr_zero", "Lip correlation, lag 0", "", "none", "model", "true_lips", "The same without any shift: lips must move at the right moment. Real motion through the autoencoder is the ceiling, foreign speech the floor, about 0.", call=TRUE_LIPS, through=POINTS, judges=("motion", "truth")),
    Measure("lip_lag", "Lip lag", "frames", "none", "model", "true_lips", "Median of the best lags; positive: the generated lips come late.", call=TRUE_LIPS, through=POINTS, judges=("motion", "truth")),
    Measure("lse_d", "LSE-D", "", "lower", "sync", "syncnet", "Distance of lips and sound as a SyncNet sees them, at the clip's best offset. Lower is better. Only results of one SyncNet compare.", through=SYNC, judges=("sync",), shared=True),
    Measure("lse_c", "LSE-C", "", "higher", "sync", "syncnet", "How much nearer lips and sound are at the best offset than at the median one; above 0 by chance even for foreign speech. Higher is better.", through=SYNC, judges=("sync",), shared=True),
    Measure("av_offset", "Sync offset", "frames", "real", "sync", "syncnet", "Median of the SyncNet's best offsets; positive: the sound comes late.", through=SYNC, judges=("sync",)),
    Measure("av_corr", "Speech-to-lip correlation, best lag", "", "higher", "sync", "speech", "Lips of the video against those that a regression fitted on other faces and voices expects from the speech. Higher is better.", call=MEASURE_SYNC, through=FITTED, judges=("motion",), unknown=RESTING, shared=True),
    Measure("av_corr_zero", "Speech-to-lip correlation, lag 0", "", "higher", "sync", "speech", "The same without any shift.", call=MEASURE_SYNC, through=FITTED, judges=("motion",), unknown=RESTING),
    Measure("av_lag", "Speech-to-lip lag", "frames", "real", "sync", "speech", "Median of the best lags; positive: the sound comes late.", call=MEASURE_SYNC, through=FITTED, judges=("motion",), unknown=RESTING),
    Measure("av_retrieval", "Speech retrieval", "", "higher", "sync", "speech", "How often the lips go better with their own speech than with that of another voice; 0.5 by chance. Higher is better.", call=MEASURE_SYNC, through=FITTED, judges=("motion",), unknown=NO_WINDOW),
    Measure("av_corr_whisper", "Speech-to-lip correlation by Whisper, best lag", "", "higher", "sync", "speech", "As by log-mel, of what Whisper hears: it tells more of lips. Higher is better.", call=HEARD_SYNC, through=HEARD, judges=("motion", "listener"), unknown=RESTING),
    Measure("av_corr_zero_whisper", "Speech-to-lip correlation by Whisper, lag 0", "", "higher", "sync", "speech", "The same without any shift.", call=HEARD_SYNC, through=HEARD, judges=("motion", "listener"), unknown=RESTING),
    Measure("av_lag_whisper", "Speech-to-lip lag by Whisper", "frames", "real", "sync", "speech", "Median of the best lags; positive: the sound comes late.", call=HEARD_SYNC, through=HEARD, judges=("motion", "listener"), unknown=RESTING),
    Measure("lip_closure", "Lip closure", "%", "higher", "sync", "phones", "Share of p, b and m on which the lips close. Higher is better.", call=("lip_closure:lip_closure", "lips", "real_now", "phones", "protocol.closure", "protocol.lip_range"), through=POINTS, judges=("motion", "phones"), shared=True),
    Measure("fid", "FID", "", "lower", "generation", "pictures", "Fréchet distance of the Inception features of all generated and all real frames. Lower is better; under 2048 frames it is too few.", through=CLIPS, judges=("inception",), metric=("fid:FrechetInceptionDistance", "judges.inception"), pool=POOLED, unknown=TOO_FEW),
    Measure("kid", "KID", "", "lower", "generation", "pictures", "Kernel distance of the same features, without the bias of few frames. Lower is better.", through=CLIPS, judges=("inception",), metric=("fid:KernelInceptionDistance", "judges.inception", "protocol.kid"), pool=POOLED_KID, unknown=TOO_FEW),
    Measure("fd_efficientnet_lite0", "Fréchet distance, EfficientNet-Lite0", "", "lower", "generation", "pictures", "Fréchet distance of EfficientNet-Lite0 features of all generated and all real frames, with weights that come with the installation. No FID, and not comparable with one. Lower is better.", through=CLIPS, judges=("efficientnet",), metric=("fid:FrechetInceptionDistance", "judges.efficientnet"), pool=POOLED, unknown=TOO_FEW),
    Measure("fvd", "FVD", "", "lower", "generation", "windows", "Fréchet distance of the I3D features of windows of 16 frames. Lower is better.", through=CLIPS, judges=("i3d",), metric=("fvd:FrechetVideoDistance", "judges.i3d", "protocol.fvd"), pool=POOLED, unknown="fewer than two windows on a side"),
    Measure("csim", "CSIM", "", "higher", "identity", "row", "Cosine of the face embeddings of the source and each frame. Higher is better, up to the real row's.", call=("identity:identity_similarity", "source", "row.embeddings"), through=EMBEDDED, judges=("landmarks", "embedder"), unknown="the source frame or the video shows no face"),
    Measure("mouth_lmd", "Mouth LMD", "eye distances", "lower", "generation", "clip_pair", "Distance of the mouth's landmarks from the real ones with the head's pose taken out. Lower is better; a mouth at rest is nearer than one that moves wrongly.", call=("landmarks:mouth_distance", *BOTH, "protocol.landmarks"), through=FACES, judges=("landmarks",), unknown=NO_FACE),
    Measure("mouth_lmd_best", "Mouth LMD, best seed", "eye distances", "lower", "generation", "seeds", "The same of the best of the sampling seeds, named with their number: more seeds have a better one.", call=("evaluation.inputs:best_mouth_lmd", "takes", "real", "protocol.landmarks"), through=FACES, judges=("landmarks",), unknown=NO_FACE),
    Measure("mouth_diversity", "Diversity of mouths", "eye distances", "none", "generation", "seeds", "Mean distance between the mouths of every two sampling seeds.", call=("evaluation.inputs:mouth_diversity", "takes", "protocol.landmarks"), through=FACES, judges=("landmarks",), unknown=NO_FACE),
    Measure("head_motion", "Head motion", "°", "real", "motion", "row", "Standard deviation of head rotation over a clip, RMS of yaw, pitch and roll. It should be as on real video.", call=("motion:head_motion", "row.motion.rotation"), through=FACES, judges=("motion",)),
    Measure("head_by_speech", "Head motion by speech", "%", "none", "motion", "seeds", "Share of the variance of head rotation that the sampling seeds of a clip have in common: what its speech explains, and its portrait. Of the synthetic heads speech drives a fifth.", call=("evaluation.inputs:head_by_speech", "takes"), through=FACES, judges=("motion",), unknown="the head doesn't move, or no two frames show it in all seeds"),
    Measure("mouth_motion", "Mouth motion", "eye distances", "real", "motion", "row", "Standard deviation of lip opening over a clip. It should be as on real video.", call=("motion:mouth_motion", "row.motion.lip_opening"), through=POINTS, judges=("motion",)),
    Measure("blink_rate", "Blinks", "/min", "real", "motion", "row", "Times a minute that the lids stay closed for two frames or more. It should be as on real video.", call=("motion:blink_rate", "row.motion.blink", "protocol.blinks"), through=FACES, judges=("motion",)),
    Measure("jitter", "Jitter", "°", "lower", "motion", "row", "Trembling above 6 Hz: of the rotation of drawn heads, where the judge's own noise is included; of eye corners and nose bridge of real faces, in eye distances. Lower is better.", call=("evaluation.inputs:jitter_above_floor", "row", "floor", "protocol.jitter", "protocol.landmarks"), through=(*FACES, "jitter_floor", "codec"), judges=("motion",)),
    Measure("edge_steps", "Steps at edges", "", "real", "motion", "row", "Mean step of the head from one window of 64 frames to the next, the last of which ends with the clip, over the clip's median step. It should be as on real video, which is cut at the same frames.", call=("motion:edge_steps", "row.motion.rotation", "protocol.edges"), through=FACES, judges=("motion",), unknown=SHORT),
    Measure("edge_step_ratio", "Steps at edges over those inside", "", "real", "motion", "row", "The same over the mean step inside of windows: about 1 without seams.", call=("motion:edge_step_ratio", "row.motion.rotation", "protocol.edges"), through=FACES, judges=("motion",), unknown=SHORT),
    Measure("motion_frechet", "Motion Fréchet distance", "", "lower", "motion", "distribution", "Distance of the distributions of generated and real motion, in variances of the real one. Lower is better.", call=("distributions:motion_features", "row.landmarks", "row.motion.rotation", "protocol.motion_features", "protocol.landmarks"), through=FACES, judges=("landmarks",), metric=("distributions:MotionFrechetDistance", "protocol.motion_features"), unknown="fewer than two frames with a face on a side, or a real face that rests"),
    Measure("head_velocity_distance", "Head speed, distance", "°/s", "lower", "motion", "distribution", "Between the distributions of the generated and the real head's speed. Lower is better.", call=("distributions:head_speed", "row.motion.rotation", "protocol.head_speed"), through=FACES, judges=("motion",), metric=("distributions:HeadVelocityDistance",)),
    Measure("head_spectrum_distance", "Head spectrum, distance", "dB", "lower", "motion", "distribution", "Between the spectra of generated and real head motion. Lower is better.", call=("distributions:head_spectrum", "row.motion.rotation", "protocol.head_spectrum"), through=FACES, judges=("motion",), metric=("distributions:HeadSpectrumDistance", "protocol.head_spectrum"), unknown="no clip lasts 3 s"),
    Measure("blink_interval_distance", "Blink intervals, distance", "s", "lower", "motion", "distribution", "Between the distributions of the time from blink to blink. Lower is better.", call=("distributions:blink_intervals", "row.motion.blink", "protocol.blinks"), through=FACES, judges=("motion",), metric=("distributions:BlinkIntervalDistance", "protocol.blink_intervals"), unknown="fewer than five intervals between blinks on a side"),
    Measure("sharpness_mouth", "Sharpness of the mouth", "%", "real", "generation", "clip_pair", "Detail of the mouth as a share of the real clip's; 100 % is as sharp as real.", call=SHARPNESS, through=HELD, judges=("landmarks",), unknown=NO_FACE),
    Measure("sharpness_eyes", "Sharpness of the eyes", "%", "real", "generation", "clip_pair", "The same of the eyes.", call=SHARPNESS, through=HELD, judges=("landmarks",), unknown=NO_FACE),
    Measure("sharpness", "Sharpness", "%", "real", "generation", "clip_pair", "Detail of the whole frame as a share of the real clip's; 100 % is as sharp as real.", call=("sharpness:frame_sharpness", "row.frames", "real.frames"), through=CLIPS),
    Measure("fine_detail", "Fine detail", "%", "real", "portrait", "portrait", "Detail of the face as a share of the portrait's; 100 % is as sharp as the portrait.", call=("sharpness:fine_detail", "row.frames", "row.landmarks", "real.frames", "real.landmarks", "protocol.fine_detail", "protocol.landmarks"), through=FACES, judges=("landmarks",), unknown="the portrait or the video shows no face"),
    Measure("flicker", "Flicker", "grey levels", "real", "generation", "row", "Change of brightness from frame to frame once the face is held still. It should be as on real video.", call=("sharpness:flicker", "row.still_faces", "row.still_face_frames"), through=HELD, judges=("landmarks",)),
    Measure("fps", "Speed", "frames/s", "none", "model", "derived", "Frames made a second from speech to picture, on the machine that results.json names; without reading and writing files."),
)  # fmt: skip


def _with_derived(entries: Sequence[Measure]) -> dict[str, Measure]:
    """The entries by name, floors of distances and shares behind the measures that they belong to."""
    found = {}
    for one in entries:
        found[one.name] = one
        rest = replace(one, kind="derived", call=(), metric=(), pool=(), shared=False, base=one.name)
        if one.pool:
            title, name = f"{one.title}, floor", f"{one.name}_floor"
            floor = replace(
                rest, name=name, title=title, better="none", meaning=FLOOR_OF, through=one.settings
            )
            found[name] = floor
        if one.shared:
            title, name = f"{one.title} between floor and real", f"{one.name}_share"
            share = replace(rest, name=name, title=title, better="higher", unit="", meaning=SHARE_OF)
            found[name] = replace(share, through=(*one.settings, "shares"))
    return found


MEASURES = _with_derived(_ENTRIES)
"""Every measure by its name in results (``mouth_lmd_best``: ``mouth_lmd_best_of_K`` for K seeds)."""
SLOTS = {slot for one in MEASURES.values() for slot in one.judges}
"""Judges that some measure hangs on."""
FEATURE_SLOTS = {one.judges[0] for one in MEASURES.values() if one.kind in ("pictures", "windows")}
"""Those that are networks of features."""


def measure_of(name: str) -> Measure | None:
    """The measure that a name in results is of, whatever row's (``csim_real``: ``csim``); None where it is of none."""
    known = [measure for measure in MEASURES if name == measure or name.startswith(f"{measure}_")]
    return MEASURES[max(known, key=len)] if known else None


def is_lag(name: str) -> bool:
    """Whether a measure, of whatever row, is a lag in frames: of several the median is taken, never the mean."""
    return name.startswith(("av_lag", "av_offset", "lip_lag"))


def measures_of(task: str) -> list[Measure]:
    """The measures that a task is judged by: the two families never mix."""
    if task == FREE:
        return [one for one in MEASURES.values() if one.kind in FREE_KINDS]
    other = {"generation": "reconstruction", "reconstruction": "generation"}[task]
    return [one for one in MEASURES.values() if one.family not in (other, "model", "portrait")]


def of_kind(kind: Kind, judges: "Judges", task: str = "generation") -> list[Measure]:
    """The measures of a kind, if the task asks it, whose judges are there."""
    asked = kind in FREE_KINDS if task == FREE else kind != "portrait"
    known = set(judges.hashes)
    return [one for one in MEASURES.values() if asked and one.kind == kind and set(one.slots(task)) <= known]


def names_of_kind(kind: Kind) -> str:
    """The names of a kind, for messages."""
    return ", ".join(one.name for one in MEASURES.values() if one.kind == kind)


def values_of(measures: Sequence[Measure], inputs: Any) -> dict[str, float]:
    """What some measures say of their inputs; a function that gives several is asked once."""
    values: dict[str, float] = {}
    for one in {one.call or one.name: one for one in measures}.values():
        found = one.ask(inputs)
        values.update(found if isinstance(found, dict) else {one.name: found})
    return values


def measure_hashes(
    measures: Sequence[Measure], protocol: "Protocol", judges: Mapping[str, str]
) -> dict[str, str]:
    """Hash of all that the number hangs on besides the data, for each measure whose judges are there, by name.

    That is its name, exactly the settings that its entry names, its judges' weights (``judges``: slot -> sha256) and,
    where both tasks have it, the task. 16 hexadecimal digits.
    """
    return {
        one.name: short_hash(
            {
                "name": one.name,
                "settings": {name: asdict(getattr(protocol, name)) for name in one.settings},
                "judges": {slot: judges[slot] for slot in one.slots(protocol.task)},
                "task": protocol.task if one.family in ("identity", "sync", "motion") else None,
            }
        )
        for one in measures
        if set(one.slots(protocol.task)) <= set(judges)
    }
