"""The evaluation protocols: frozen settings that the measures' functions take as arguments, and nothing else.

From the first release on, a change of a default here or beside a measure is a new protocol name. What a measure's hash
covers is said by its line in `metrics.evaluation.registry`.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from datamodules.batches import FPS
from metrics.av_correlation import BY_LISTENER, AVSettings, RegressionSettings, RetrievalSettings
from metrics.distributions import (
    BlinkIntervalSettings,
    HeadSpectrumSettings,
    HeadSpeedSettings,
    MotionFeatureSettings,
)
from metrics.evaluation.feature_pools import PoolSettings
from metrics.evaluation.intervals import IntervalSettings
from metrics.evaluation.protocol_names import (
    FREE,
    SYNTHETIC,
    TALKING_HEAD,
    TALKING_HEAD_FREE,
    ReadingSettings,
    check_protocol,
)
from metrics.fid import KidSettings
from metrics.fvd import FvdSettings
from metrics.judges.face_embedder import AlignmentSettings
from metrics.judges.mfcc import MfccSettings
from metrics.landmarks import KeypointSettings, LandmarkSettings
from metrics.lip_closure import ClosureSettings, LipRangeSettings
from metrics.motion import BlinkSettings, EdgeSettings, JitterSettings, LagSettings
from metrics.sharpness import FineDetailSettings, SharpnessSettings, StillFaceSettings
from metrics.sync import FaceCropSettings, SyncSettings


@dataclass(frozen=True)
class FacelessSettings:
    """When too few frames show a face: what is left of a face that comes and goes would look better than the whole."""

    most: float = 0.1  # share of frames without a face beyond which a clip's measures of faces have no value


@dataclass(frozen=True)
class CodecSettings:
    """The H.264 of the row codec, and of the still clip for the jitter's floor."""

    crf: int = 18  # quality, 0 to 51; the lower the better


@dataclass(frozen=True)
class JitterFloorSettings:
    """What the detector's own trembling is measured on: the still source frame through the codec."""

    frames: int = 50  # its length


@dataclass(frozen=True)
class ShareSettings:
    """When a measure is given between the shuffled row and the real one."""

    fewest_identities: int = 6  # fewer may all have the better real row by luck, in over one of forty cases


FEWEST_IDENTITIES = ShareSettings().fewest_identities
"""Identities without which no difference is told from chance: of five, all are better by luck in one of 32 cases."""


@dataclass(frozen=True)
class Protocol:
    """What measures are given besides what they judge."""

    name: str
    # generation or reconstruction, as the two families of measures never mix; free: without real videos
    task: str = "generation"
    # which frames are judged; part of the identity of the data
    reading: ReadingSettings = field(default_factory=ReadingSettings)
    intervals: IntervalSettings = field(default_factory=IntervalSettings)
    shares: ShareSettings = field(default_factory=ShareSettings)
    faceless: FacelessSettings = field(default_factory=FacelessSettings)
    landmarks: LandmarkSettings = field(default_factory=LandmarkSettings)
    alignment: AlignmentSettings = field(default_factory=AlignmentSettings)
    keypoints: KeypointSettings = field(default_factory=KeypointSettings)
    blinks: BlinkSettings = field(default_factory=BlinkSettings)
    jitter: JitterSettings = field(default_factory=JitterSettings)
    edges: EdgeSettings = field(default_factory=EdgeSettings)
    codec: CodecSettings = field(default_factory=CodecSettings)
    jitter_floor: JitterFloorSettings = field(default_factory=JitterFloorSettings)
    still_face: StillFaceSettings = field(default_factory=StillFaceSettings)
    sharpness: SharpnessSettings = field(default_factory=SharpnessSettings)
    fine_detail: FineDetailSettings = field(default_factory=FineDetailSettings)
    lags: LagSettings = field(default_factory=LagSettings)
    sync: SyncSettings = field(default_factory=SyncSettings)
    mfcc: MfccSettings = field(default_factory=MfccSettings)
    face_crops: FaceCropSettings = field(default_factory=FaceCropSettings)
    regression: RegressionSettings = field(default_factory=RegressionSettings)
    regression_by_listener: RegressionSettings = BY_LISTENER
    av: AVSettings = field(default_factory=AVSettings)
    retrieval: RetrievalSettings = field(default_factory=RetrievalSettings)
    lip_range: LipRangeSettings = field(default_factory=LipRangeSettings)
    closure: ClosureSettings = field(default_factory=ClosureSettings)
    motion_features: MotionFeatureSettings = field(default_factory=MotionFeatureSettings)
    head_speed: HeadSpeedSettings = field(default_factory=HeadSpeedSettings)
    head_spectrum: HeadSpectrumSettings = field(default_factory=HeadSpectrumSettings)
    blink_intervals: BlinkIntervalSettings = field(default_factory=BlinkIntervalSettings)
    pool: PoolSettings = field(default_factory=PoolSettings)
    kid: KidSettings = field(default_factory=KidSettings)
    fvd: FvdSettings = field(default_factory=FvdSettings)

    def settings(self) -> dict[str, Any]:
        """All settings as plain data."""
        return {name: value for name, value in asdict(self).items() if name != "name"}


PROTOCOLS = {
    TALKING_HEAD: Protocol(TALKING_HEAD),
    # Drawn heads: any size, their whole frame is the face, and the shipped expert judges shorter clips.
    SYNTHETIC: Protocol(SYNTHETIC, reading=ReadingSettings(size=None), sync=SyncSettings(minimum_frames=50)),
    # Nothing is compared frame by frame: methods may leave off the end of the speech.
    TALKING_HEAD_FREE: Protocol(TALKING_HEAD_FREE, FREE, reading=ReadingSettings(most_length_difference=FPS)),
}


def get_protocol(name: str, task: str = "generation", **reading: Any) -> Protocol:
    """A protocol by its name, for a task; changes of its `ReadingSettings` give the data another identity.

    Raises:
        UserError: No such protocol, or a task or crop that it has not.
    """
    check_protocol(name, task, reading.get("crop", ReadingSettings.crop))
    protocol = PROTOCOLS[name]
    return replace(protocol, task=task, reading=replace(protocol.reading, **reading))
