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
from metrics.identity import Embedder, FaceEmbedder
from metrics.landmarks import MESH
from metrics.motion import Judge as Motion
from metrics.motion import MotionCurves

ALEXNET = "alexnet"
_BATCH = 32
Judge = TypeVar("Judge")
log = logging.getLogger(__name__)

LIP_CLOSURE = "needs the times of p, b and m in the speech: no phone alignment is at hand"


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


class PooledImages:
    """FID and KID from one pass of the Inception; the method's frames against the real ones."""

    def __init__(self) -> None:
        from metrics.frechet import FrechetInceptionDistance, KernelInceptionDistance

        self.fid = FrechetInceptionDistance()
        self.kid = KernelInceptionDistance(self.fid.feature)

    def update(self, frames: Tensor, real: bool) -> None:
        """Add frames ``(T, 3, H, W)`` uint8."""
        for part in frames.split(_BATCH):
            features = self.fid.features(part)
            self.fid.update(features, real=real)
            self.kid.update(features, real=real)

    def compute(self) -> tuple[dict[str, float], list[str]]:
        """Values, and remarks on what they stand on."""
        values = {"fid": float(self.fid.compute()), "kid": float(self.kid.compute())}
        counts = f"{self.fid.real_count} real and {self.fid.generated_count} generated frames"
        return values, [f"fid, kid: {counts}" + (", too few" if self.fid.few else "")]


class PooledWindows:
    """FVD of windows of 16 frames."""

    def __init__(self) -> None:
        from metrics.frechet import WINDOW, FrechetVideoDistance

        self.fvd, self.window = FrechetVideoDistance(), WINDOW

    def update(self, frames: Tensor, starts: list[int], real: bool) -> None:
        """Add the windows of ``(T, 3, H, W)`` uint8 that begin at ``starts``."""
        for start in starts:
            if start + self.window <= len(frames):
                self.fvd.update(frames[None, start : start + self.window], real=real)

    def compute(self) -> tuple[dict[str, float], list[str]]:
        """Values, and remarks on what they stand on."""
        value = float(self.fvd.compute())
        counts = f"{self.fvd.real_count} real and {self.fvd.generated_count} generated windows"
        return {"fvd": value}, [f"fvd: {counts}" + (", too few" if self.fvd.few else "")]


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
    judges.missing.append(("lip_closure", LIP_CLOSURE))
    return judges
