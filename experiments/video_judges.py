"""The judges of videos: loaded where their files are, listed with the reason and the command where they are not."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from datamodules import assets
from datamodules.clips.manifest import file_sha256
from datamodules.errors import UserError
from metrics.bootstrap import Interval
from metrics.fid import ENOUGH, extract_features
from metrics.fvd import FvdSettings
from metrics.judges.face_embedder import Embedder, FaceEmbedder
from metrics.landmarks import face_boxes
from metrics.motion import MotionCurves
from metrics.motion import MotionJudge as Motion
from metrics.pooled import REAL, PooledFrechet, PooledKernel

ALEXNET = "alexnet"
REAL_FACES = "face-landmarker"
"""Name of the judge of motion that looks at real faces."""
_BATCH = 32
WINDOW = FvdSettings().length
Judge = TypeVar("Judge")
log = logging.getLogger(__name__)


class SyncJudge:
    """LSE-D, LSE-C and offset of one clip by a SyncNet.

    Args:
        network: ``metrics.judges.syncnet.SyncNet``, ready to judge.
        minimum: Frames that a clip must have.
        boxes: Whether faces are cut out by landmark boxes; else the whole frame is the face.
    """

    def __init__(self, network: Any, minimum: int, boxes: bool) -> None:
        self.network, self.minimum, self.boxes = network.requires_grad_(False).eval(), minimum, boxes

    def crops(self, frames: Tensor, points: np.ndarray | None) -> Tensor:
        """What the network sees of the frames ``(T, 3, H, W)`` uint8.

        Raises:
            ValueError: No track of a face.
        """
        if not self.boxes or points is None:
            return frames
        from metrics.sync import face_crops

        return face_crops(frames, face_boxes(points))

    def measure(self, crops: Tensor, speech: Sequence[np.ndarray]) -> list[dict[str, float]]:
        """``lse_d``, ``lse_c`` and ``av_offset`` of crops ``(T, 3, H, W)`` with each of some sounds ``(640 T,)``.

        Raises:
            ValueError: The clip is too short.
        """
        from metrics.sync import lip_sync

        if len(crops) < self.minimum:
            raise ValueError(f"{len(crops)} frames, lip sync is judged from {self.minimum} on")
        results = lip_sync(self.network, crops, [torch.from_numpy(one).float() for one in speech])
        return [
            {"lse_d": one.distance, "lse_c": one.confidence, "av_offset": float(one.offset)}
            for one in results
        ]


class _PooledJudge:
    """What is judged over all clips at once: which sides there are, and how they are named in results."""

    def __init__(self) -> None:
        self._sides: dict[str, dict[str, int]] = {}  # row -> its takes -> clips that have it

    def _side(self, row: str, take: int) -> str:
        """Name of a row's take among the sides; counts a clip for it."""
        side = row if row == REAL else f"{row} {take}"
        takes = self._sides.setdefault(row, {})
        takes[side] = takes.get(side, 0) + 1
        return side

    def _values(self, name: str, pooled: PooledFrechet | PooledKernel) -> dict[str, Interval]:
        """The distance of every row to the real clips, none for a row that some clips lack; and its noise floor."""
        rows = dict(self._sides)
        real = sum(rows.pop(REAL, {}).values())
        values = {
            name if row == "generated" else f"{name}_{row}": (
                self._bounded(name, pooled.interval(list(takes)))
                if all(clips == real for clips in takes.values())
                else Interval(None, None, None, 0)
            )
            for row, takes in rows.items()
        }
        floor = pooled.floor()
        known = np.isfinite(floor)
        values[f"{name}_floor"] = Interval(floor if known else None, None, None, pooled.clips if known else 0)
        return values

    @staticmethod
    def _bounded(name: str, interval: Interval) -> Interval:
        """KID alone, which has no bias, may be negative."""
        return interval if name == "kid" else interval.not_below(0)

    def _remarks(self, names: Sequence[str], pooled: PooledFrechet, kind: str) -> list[str]:
        """On how much the distances stand, and what the floor is taken between."""
        takes = self._sides.get("generated", {})
        counts = (pooled.count(REAL), min([pooled.count(take) for take in takes], default=0))
        few = f", too few (under {ENOUGH})" if min(counts) < ENOUGH else ""
        each = " of each take" if len(takes) > 1 else ""
        # Halves have half the frames, so a floor lies above that of the whole.
        of = "people" if len(pooled.identities) > 1 else "clips of the only identity"
        floors = ", ".join(f"{name}_floor" for name in names)
        return [
            f"{', '.join(names)}: {counts[0]} real and {counts[1]} generated {kind}{each}{few}",
            f"{floors}: real against real, two halves of disjoint {of}",
        ]


class PooledImages(_PooledJudge):
    """FID and KID from one pass of the Inception; the frames of every row against the real ones.

    Takes of several sampling seeds are compared each by itself, and the distances averaged: more frames would look
    better. Memory is bounded, see `metrics.pooled`.

    Args:
        network: Feature network; pytorch-fid's Inception from its weights file if left out.

    Raises:
        MissingAssetError: The Inception's weights are not there.
    """

    def __init__(self, network: Any = None) -> None:
        from metrics.judges.inception import load_fid_inception

        super().__init__()
        self.network = load_fid_inception() if network is None else network
        self.fid, self.kid = PooledFrechet(self.network.num_features), PooledKernel()

    def update(self, frames: Tensor, row: str, identity: str = "", take: int = 0) -> None:
        """Add all frames ``(T, 3, H, W)`` uint8 of one clip.

        Args:
            frames: Of one row of the clip.
            row: ``real``, ``generated`` or another.
            identity: Who is seen; the same word for all leaves the distances without an interval.
            take: Which sampling seed.
        """
        features = torch.cat([extract_features(self.network, part) for part in frames.split(_BATCH)])
        side = self._side(row, take)
        self.fid.add(features, side, identity)
        self.kid.add(features, side, identity)

    def compute(self) -> tuple[dict[str, Interval], list[str]]:
        """``fid`` and ``kid`` of every row, their noise floors, and remarks on what they stand on."""
        values = {**self._values("fid", self.fid), **self._values("kid", self.kid)}
        return values, self._remarks(("fid", "kid"), self.fid, "frames")


class PooledWindows(_PooledJudge):
    """FVD of windows of 16 frames; takes as in `PooledImages`.

    Memory is bounded, see `metrics.pooled`.

    Args:
        network: Feature network; I3D from its TorchScript file if left out.

    Raises:
        MissingAssetError: The file of I3D is not there.
    """

    def __init__(self, network: Any = None) -> None:
        from metrics.judges.inception import load_i3d

        super().__init__()
        self.network = load_i3d() if network is None else network
        self.fvd = PooledFrechet(self.network.num_features)

    def update(
        self, frames: Tensor, starts: Sequence[int], row: str, identity: str = "", take: int = 0
    ) -> None:
        """Add the windows of one clip.

        Args:
            frames: ``(T, 3, H, W)`` uint8, of one row of the clip.
            starts: First frames of the windows; those that go beyond the end are left out.
            row: ``real``, ``generated`` or another.
            identity: Who is seen; the same word for all leaves the distance without an interval.
            take: Which sampling seed.
        """
        side = self._side(row, take)
        windows = [frames[None, start : start + WINDOW] for start in starts if start + WINDOW <= len(frames)]
        if windows:
            features = torch.cat([extract_features(self.network, window) for window in windows])
            self.fvd.add(features, side, identity)

    def compute(self) -> tuple[dict[str, Interval], list[str]]:
        """``fvd`` of every row, its noise floor, and remarks on what they stand on."""
        return self._values("fvd", self.fvd), self._remarks(("fvd",), self.fvd, "windows")


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
        motion: Name of the judge of motion, and what is known of how far it can be trusted.
        hashes: Name of each judge -> sha256 of its weights.
        missing: ``(what, why)`` of the judges that are not there.
    """

    watch: Callable[[np.ndarray], tuple[MotionCurves, np.ndarray | None]]
    embedder: Embedder | None = None
    lpips: Any = None
    sync: Any = None
    images: Any = None
    windows: Any = None
    motion: dict[str, Any] = field(default_factory=dict)
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
    from metrics.lpips import LPIPS

    return LPIPS()


def _load_syncnet(minimum: int) -> SyncJudge:
    from metrics.judges.syncnet import SyncNet

    return SyncJudge(SyncNet.load(assets.find("syncnet_v2.model")), minimum, boxes=True)


def _load_expert(minimum: int) -> SyncJudge:
    from metrics.judges.syncnet import load_expert

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

        facts = {"name": drawn.name, **getattr(drawn, "facts", {})}
        judges = Judges(watch_by(drawn), motion=facts, hashes={drawn.name: drawn.sha256})
        face = "csim, aed, akd, lmd, mouth_lmd, sharpness, flicker, motion_frechet"
        judges.missing.append((face, "no model of real faces judges drawn ones"))
        judges.sync = judges.load(
            "lse_d, lse_c, av_offset",
            "sync expert",
            lambda: _load_expert(minimum),
            lambda judge: judge.network.sha256,
        )
    else:
        from datamodules.faces.landmarks import MODEL
        from experiments.video_measures import watch_landmarks

        judges = Judges(
            watch_landmarks,
            motion={"name": REAL_FACES},
            hashes={REAL_FACES: file_sha256(assets.find(MODEL))},
        )
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
