"""The judges of videos: loaded where their files are, listed with the reason and the command where they are not."""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from datamodules import assets
from datamodules.errors import UserError
from datamodules.manifest import file_sha256
from metrics.bootstrap import Interval
from metrics.frechet import ENOUGH, WINDOW, extract_features
from metrics.identity import Embedder, FaceEmbedder
from metrics.landmarks import MESH
from metrics.motion import Judge as Motion
from metrics.motion import MotionCurves
from metrics.pooled import PooledFrechet, PooledKernel

ALEXNET = "alexnet"
_BATCH = 32
Judge = TypeVar("Judge")
log = logging.getLogger(__name__)


class SyncJudge:
    """LSE-D, LSE-C and offset of one clip by a SyncNet.

    Args:
        network: ``metrics.syncnet.SyncNet``, ready to judge.
        minimum: Frames that a clip must have.
        boxes: Whether faces are cut out by landmark boxes; else the whole frame is the face.
    """

    def __init__(self, network: Any, minimum: int, boxes: bool) -> None:
        from metrics.sync import SyncNetScore

        self.network, self.minimum, self.boxes = network, minimum, boxes
        self.score = SyncNetScore(network, minimum=minimum)

    def crops(self, frames: Tensor, points: np.ndarray | None) -> Tensor:
        """What the network sees of the frames ``(T, 3, H, W)`` uint8.

        Raises:
            ValueError: No track of a face.
        """
        if not self.boxes or points is None:
            return frames
        from metrics.sync import face_crops

        plane = points[:, :MESH, :2]
        return face_crops(frames, np.concatenate([plane.min(axis=1), plane.max(axis=1)], axis=1))

    def measure(self, crops: Tensor, waveform: np.ndarray) -> dict[str, float]:
        """``lse_d``, ``lse_c`` and ``av_offset`` of crops ``(T, 3, H, W)`` and speech ``(640 T,)``.

        Raises:
            ValueError: The clip is too short.
        """
        if len(crops) < self.minimum:
            raise ValueError(f"{len(crops)} frames, lip sync is judged from {self.minimum} on")
        self.score.reset()
        self.score.update(crops, torch.from_numpy(waveform).float())
        found = self.score.compute()
        return {name: float(found[name]) for name in ("lse_d", "lse_c", "av_offset")}


def _remark(names: str, kind: str, counts: tuple[int, int]) -> str:
    few = ", too few" if min(counts) < ENOUGH else ""
    return f"{names}: {counts[0]} real and {counts[1]} generated {kind}{few}"


def _floor(value: float, clips: int) -> Interval:
    known = np.isfinite(value)
    return Interval(value if known else None, None, None, clips if known else 0)


def _halves(names: str, pooled: PooledFrechet) -> str:
    """What a noise floor is taken between: halves have half the frames, so it lies above that of the whole."""
    of = "people" if len(pooled.identities) > 1 else "clips of the only identity"
    return f"{names}: real against real, two halves of disjoint {of}"


class PooledImages:
    """FID and KID from one pass of the Inception; the method's frames against the real ones.

    Memory is bounded, see `metrics.pooled`.

    Args:
        network: Feature network; pytorch-fid's Inception from its weights file if left out.

    Raises:
        MissingAssetError: The Inception's weights are not there.
    """

    def __init__(self, network: Any = None) -> None:
        from metrics.inception import load_fid_inception

        self.network = load_fid_inception() if network is None else network
        self.fid, self.kid = PooledFrechet(self.network.num_features), PooledKernel()

    def update(self, frames: Tensor, real: bool, identity: str = "") -> None:
        """Add all frames ``(T, 3, H, W)`` uint8 of one clip.

        Args:
            frames: Of the real clip, or of one take of the method's.
            real: Which of them.
            identity: Who is seen; the same word for all leaves the distances without an interval.
        """
        features = torch.cat([extract_features(self.network, part) for part in frames.split(_BATCH)])
        self.fid.add(features, real, identity)
        self.kid.add(features, real, identity)

    def compute(self) -> tuple[dict[str, Interval], list[str]]:
        """``fid`` and ``kid``, their noise floors, and remarks on what they stand on."""
        values = {
            "fid": self.fid.interval(),
            "kid": self.kid.interval(),
            "fid_floor": _floor(self.fid.floor(), self.fid.clips),
            "kid_floor": _floor(self.kid.floor(), self.kid.clips),
        }
        remarks = [
            _remark("fid, kid", "frames", self.fid.counts),
            _halves("fid_floor, kid_floor", self.fid),
        ]
        return values, remarks


class PooledWindows:
    """FVD of windows of 16 frames.

    Memory is bounded, see `metrics.pooled`.

    Args:
        network: Feature network; I3D from its TorchScript file if left out.

    Raises:
        MissingAssetError: The file of I3D is not there.
    """

    def __init__(self, network: Any = None) -> None:
        from metrics.inception import load_i3d

        self.network = load_i3d() if network is None else network
        self.fvd = PooledFrechet(self.network.num_features)

    def update(self, frames: Tensor, starts: list[int], real: bool, identity: str = "") -> None:
        """Add the windows of one clip.

        Args:
            frames: ``(T, 3, H, W)`` uint8, of the real clip or of one take of the method's.
            starts: First frames of the windows; those that go beyond the end are left out.
            real: Which of the two.
            identity: Who is seen; the same word for all leaves the distance without an interval.
        """
        windows = [frames[None, start : start + WINDOW] for start in starts if start + WINDOW <= len(frames)]
        if windows:
            features = torch.cat([extract_features(self.network, window) for window in windows])
            self.fvd.add(features, real, identity)

    def compute(self) -> tuple[dict[str, Interval], list[str]]:
        """``fvd``, its noise floor, and remarks on what they stand on."""
        values = {"fvd": self.fvd.interval(), "fvd_floor": _floor(self.fvd.floor(), self.fvd.clips)}
        return values, [_remark("fvd", "windows", self.fvd.counts), _halves("fvd_floor", self.fvd)]


@dataclass
class Judges:
    """The judges at hand.

    Attributes:
        watch: Looks at frames for motion and landmarks; see `experiments.video_measures.Watch`.
        embedder: Of faces.
        lpips: Metric.
        sync: SyncNet's judge.
        images: FID and KID.
        windows: FVD.
        hashes: Name of each judge -> sha256 of its weights.
        missing: ``(what, why)`` of the judges that are not there.
    """

    watch: Callable[[np.ndarray], tuple[MotionCurves, np.ndarray | None]]
    embedder: Embedder | None = None
    lpips: Any = None
    sync: Any = None
    images: Any = None
    windows: Any = None
    hashes: dict[str, str] = field(default_factory=dict)
    missing: list[tuple[str, str]] = field(default_factory=list)

    def load(
        self, what: str, name: str, build: Callable[[], Judge], sha256: Callable[[Any], str]
    ) -> Judge | None:
        """Build a judge, or note why it is not there."""
        try:
            judge = build()
            self.hashes[name] = sha256(judge)
        except UserError as error:
            log.warning("%s: not judged (%s)", what, error)
            self.missing.append((what, str(error)))
            return None
        return judge

    def ranked_by(self, task: str) -> dict[str, str]:
        """Hashes of the judges that a task is ranked by."""
        return {
            name: value for name, value in self.hashes.items() if name != ALEXNET or task == "reconstruction"
        }


def _asset_hash(name: str) -> Callable[[Any], str]:
    return lambda judge: file_sha256(assets.find(name))


def _load_lpips() -> Any:
    from metrics.perceptual import LPIPS

    return LPIPS()


def _load_syncnet(minimum: int) -> SyncJudge:
    from metrics.syncnet import SyncNet

    return SyncJudge(SyncNet.load(assets.find("syncnet_v2.model")), minimum, boxes=True)


def _load_expert(minimum: int) -> SyncJudge:
    from metrics.syncnet import load_expert

    return SyncJudge(load_expert(), minimum, boxes=False)


def load_judges(settings: dict[str, Any], drawn: Motion | None, families: Collection[str]) -> Judges:
    """All judges that are asked for and whose files are there.

    Args:
        settings: Of the protocol.
        drawn: Judge of motion of drawn faces, which no face model can judge and whose lip sync the shipped expert judges;
            None: real faces, and MediaPipe judges their motion.
        families: ``generation``, ``reconstruction`` or both.

    Raises:
        UserError: The judge of motion is not there: nothing can be said without it.
    """
    minimum = settings["sync"]["minimum_frames"]
    if drawn is not None:
        from experiments.video_measures import watch_by

        judges = Judges(watch_by(drawn), hashes={drawn.name: drawn.sha256})
        face = "csim, aed, akd, lmd, mouth_lmd, sharpness, flicker, motion_frechet"
        judges.missing.append((face, "no model of real faces judges drawn ones"))
        judges.sync = judges.load(
            "lse_d, lse_c, av_offset",
            "sync expert",
            lambda: _load_expert(minimum),
            lambda judge: judge.network.sha256,
        )
    else:
        from datamodules.landmarker import MODEL
        from experiments.video_measures import watch_landmarks

        judges = Judges(watch_landmarks, hashes={"face-landmarker": file_sha256(assets.find(MODEL))})
        judges.embedder = judges.load(
            "csim, aed", "mobilefacenet", FaceEmbedder, _asset_hash("mobilefacenet.onnx")
        )
        judges.sync = judges.load(
            "lse_d, lse_c, av_offset",
            "syncnet_v2",
            lambda: _load_syncnet(minimum),
            _asset_hash("syncnet_v2.model"),
        )
    if "reconstruction" in families:
        judges.lpips = judges.load("lpips", ALEXNET, _load_lpips, _asset_hash("alexnet-owt-7be5be79.pth"))
    if "generation" in families:
        inception = "pt_inception-2015-12-05-6726825d.pth"
        judges.images = judges.load("fid, kid", "inception", PooledImages, _asset_hash(inception))
        judges.windows = judges.load("fvd", "i3d", PooledWindows, _asset_hash("i3d_torchscript.pt"))
    return judges
