"""The judges of an evaluation: loaded where their files are, listed with the reason and the command where they are not."""

import hashlib
import importlib
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from datamodules import assets
from datamodules.clips.manifest import MANIFEST_NAME, file_sha256, read_manifest
from datamodules.errors import UserError
from metrics.av_correlation import Listener
from metrics.evaluation import protocol as settings
from metrics.evaluation.detections import Detections, Detector, Embedder
from metrics.judges.frame_regressor import JUDGE_FILE, FrameRegressor
from metrics.judges.frame_regressor_fit import fit_frame_regressor, held_out_r2
from metrics.judges.syncnet import SyncNet, load_expert
from metrics.landmarks import face_boxes
from metrics.motion import MotionCurves, MotionJudge
from metrics.sync import face_crops, lip_sync

FIT_FRAMES, FIT_STEPS = 6000, 600
JUDGE_FOLDER = "judge"
"""Of a dataset: the judge that protocols mean. One fitted within other limits has a folder that says so."""
NO_FACES = "no model of real faces judges drawn ones"
NO_BOXES = "the public SyncNet judges faces that are cut out by landmarks, and none are judged here; take sync=expert"
PUBLIC_SYNCNET = "syncnet_v2.model"
NETWORKS = {
    "lpips": ("alexnet", "alexnet-owt-7be5be79.pth", "metrics.lpips:load_lpips"),
    "inception": (
        "inception",
        "pt_inception-2015-12-05-6726825d.pth",
        "metrics.judges.inception:load_fid_inception",
    ),
    "i3d": ("i3d", "i3d_torchscript.pt", "metrics.judges.inception:load_i3d"),
}
"""Slot -> name of the judge, its file, and what loads it."""
Found = TypeVar("Found")
Progress = Callable[[int, int, str], None]
"""Called with work done, work in all and a text."""
log = logging.getLogger(__name__)
SyncJudge = Callable[[Tensor, np.ndarray | None, list[np.ndarray], settings.Protocol], list[dict[str, float]]]
"""Lip sync of frames ``(T, 3, H, W)`` uint8 with landmarks ``(T, 478, 3)`` in pixels, or None without: values by name for
each of some sounds ``(640 T,)``. It raises ValueError where there is no track of a face, or the clip is too short."""


def _blind(frames: np.ndarray) -> tuple[MotionCurves, None]:
    """Stands where nobody judges motion: sees no face in any frame."""
    unknown = np.full((len(frames), 3), np.nan)
    return MotionCurves(unknown, unknown[:, 0], unknown[:, 0]), None


@dataclass
class Judges:
    """The judges at hand, by the slots that measures name."""

    detector: Detector = _blind  # motion and landmarks: looks at frames
    embed: Embedder | None = None  # embedder: of faces
    lpips: nn.Module | None = None  # lpips: network of two pictures
    sync: SyncJudge | None = None  # sync: of lips and sound
    inception: nn.Module | None = None  # inception: features of pictures
    i3d: nn.Module | None = None  # i3d: features of windows
    efficientnet: nn.Module | None = None  # efficientnet: features of pictures
    listener: Listener | None = None  # listener: hears speech for the regression to lips
    # slot -> sha256 of its weights, of sync see `crop_sha256`; a slot that is not here is not judged
    hashes: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)  # slot -> name of the judge
    facts: dict[str, Any] = field(default_factory=dict)  # how far the judge of motion can be trusted
    absent: dict[str, str] = field(default_factory=dict)  # slot -> why its judge is not there

    def detect(self, frames: np.ndarray, protocol: settings.Protocol) -> Detections:
        """Look at frames ``(T, H, W, 3)`` uint8 with the judges of single frames."""
        curves, points = self.detector(frames)
        images = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
        faces = None if self.embed is None or points is None else self.embed(images, points)
        return Detections(images, protocol, curves, points, faces)

    def weights(self) -> dict[str, str]:
        """Name -> sha256 of each judge."""
        return {name: self.hashes[slot] for slot, name in self.names.items()}

    def load(self, slot: str, name: str, build: Callable[[], tuple[Found, str]]) -> Found | None:
        """Build a judge and its sha256, or note why it is not there."""
        try:
            judge, self.hashes[slot] = build()
        except UserError as error:
            log.warning("%s: not judged (%s)", name, error)
            self.absent[slot] = str(error)
            return None
        self.names[slot] = name
        return judge


class SyncNetJudge:
    """LSE-D, LSE-C and offset by a SyncNet; ``boxes``: of faces cut out by landmarks, else the whole frame is the face."""

    def __init__(self, network: SyncNet, boxes: bool) -> None:
        self.network, self.boxes = network.requires_grad_(False).eval(), boxes

    def __call__(
        self, frames: Tensor, points: np.ndarray | None, sounds: list[np.ndarray], protocol: settings.Protocol
    ) -> list[dict[str, float]]:
        """See `SyncJudge`."""
        if self.boxes:
            if points is None:
                raise ValueError(NO_BOXES)
            frames = face_crops(frames, face_boxes(points, protocol.landmarks), protocol.face_crops)
        least = protocol.sync.minimum_frames
        if len(frames) < least:
            raise ValueError(f"{len(frames)} frames, lip sync is judged from {least} on")
        waveforms = [torch.from_numpy(sound).float() for sound in sounds]
        found = lip_sync(self.network, frames, waveforms, protocol.sync, mfcc=protocol.mfcc)
        return [
            {"lse_d": one.distance, "lse_c": one.confidence, "av_offset": float(one.offset)} for one in found
        ]


def crop_sha256(network: str, landmarks: str = "") -> str:
    """Hash of a judge of lip sync: of its network and of what cuts out the faces; without it, it sees the whole frame."""
    return hashlib.sha256(f"{network} {landmarks or 'whole frame'}".encode()).hexdigest()


def motion_judges(judge: MotionJudge) -> Judges:
    """A judge of motion alone: landmarks too by the one of real faces, as a fitted regressor knows none."""
    look_at = getattr(judge, "look", None)
    slots = ("motion", "landmarks") if look_at else ("motion",)
    return Judges(
        look_at or (lambda frames: (judge.measure(frames), None)),
        hashes=dict.fromkeys(slots, judge.sha256),
        names={"motion": judge.name},
        facts={"name": judge.name, **getattr(judge, "facts", {})},
        absent={} if look_at else dict.fromkeys(("landmarks", "embedder"), NO_FACES),
    )


def load_judges(
    slots: Collection[str], protocol: settings.Protocol, motion: MotionJudge | None = None, sync: str = ""
) -> Judges:
    """The judges of some slots, as far as their files are there; why not is told by ``absent``.

    Args:
        slots: Which ones.
        protocol: Settings.
        motion: Looks at frames: MediaPipe, or a fitted judge of drawn faces, which no face model can judge; None: nobody.
        sync: ``public`` for the published SyncNet, ``expert`` for the shipped one of drawn faces, or a folder with another;
            empty: by the judge of motion.
    """
    if hasattr(motion, "look"):  # it goes by landmarks; a fitted one has settings of its own
        motion.settings = protocol.landmarks  # type: ignore[union-attr]
    judges = Judges() if motion is None else motion_judges(motion)
    if "embedder" in slots and "landmarks" in judges.hashes:
        from metrics.judges.face_embedder import FaceEmbedder

        def embedder() -> tuple[Embedder, str]:
            found = FaceEmbedder(settings=protocol.alignment)
            return found.embed, found.sha256

        judges.embed = judges.load("embedder", "mobilefacenet", embedder)
    sync = sync or ("public" if "landmarks" in judges.hashes else "expert")
    if "sync" in slots:
        name = "syncnet_v2" if sync == "public" else "sync expert"
        judges.sync = judges.load("sync", name, partial(_load_sync, sync, judges.hashes.get("landmarks")))
    for slot, (name, file, loader) in NETWORKS.items():
        if slot in slots:
            setattr(judges, slot, judges.load(slot, name, partial(_load, file, loader)))
    if "efficientnet" in slots:
        judges.efficientnet = judges.load("efficientnet", "efficientnet-lite0", _load_efficientnet)
    if "listener" in slots and "motion" in judges.hashes:
        judges.listener = judges.load("listener", "whisper-tiny.en", _load_listener)
    return judges


def _load_sync(kind: str, landmarks: str | None) -> tuple[SyncJudge, str]:
    if kind == "public":
        if landmarks is None:
            raise UserError(NO_BOXES)
        path = assets.find(PUBLIC_SYNCNET)
        return SyncNetJudge(SyncNet.load(path), boxes=True), crop_sha256(file_sha256(path), landmarks)
    network = load_expert() if kind == "expert" else load_expert(kind)
    return SyncNetJudge(network, boxes=False), crop_sha256(network.sha256)


def _load_efficientnet() -> tuple[nn.Module, str]:
    from metrics.judges.efficientnet import load_efficientnet, weights_file

    path = weights_file()
    return load_efficientnet(path), file_sha256(path)


def _load_listener() -> tuple[Listener, str]:
    from metrics.judges.whisper import Whisper, packaged_model

    try:
        network = Whisper(str(packaged_model()))
    except UserError as error:
        raise UserError("Whisper tiny.en is not installed: pip install 'ifmdm[whisper]'") from error
    return network, network.sha256


def _load(file: str, loader: str) -> tuple[nn.Module, str]:
    path, (module, _, name) = assets.find(file), loader.partition(":")
    return getattr(importlib.import_module(module), name)(path), file_sha256(path)


def load_training_judges(
    slots: Collection[str],
    protocol: settings.Protocol,
    motion: str = "landmarks",
    sync: str = "public",
    root: str | Path = "",
    **fit: Any,
) -> Judges:
    """The judges of some slots that measures of a training need; those that can't be loaded are ``absent``.

    ``motion``, ``root`` and ``fit`` are arguments of `load_motion_judge`, ``sync`` of `load_judges`.
    """
    seen = {"motion", "landmarks", "embedder", *(["sync"] if sync == "public" else [])}
    judge, problem = None, ""
    if seen & set(slots):
        try:
            judge = load_motion_judge(motion, Path(root), **fit)
        except UserError as error:
            problem = str(error)
    judges = load_judges(slots, protocol, judge, sync)
    judges.absent |= dict.fromkeys(seen, problem) if problem else {}
    return judges


def load_motion_judge(
    name: str,
    root: Path,
    device: str = "cpu",
    seconds: float | None = None,
    steps: int = FIT_STEPS,
    split: str = "test",
    progress: Progress | None = None,
    size: int | None = None,
    fit: Callable[..., FrameRegressor] = fit_frame_regressor,
    check: Callable[..., dict[str, float]] = held_out_r2,
) -> MotionJudge:
    """Load a judge of motion; the regressor is fitted once for each dataset and limits, and kept in the dataset's folder.

    Args:
        name: ``auto``: the regressor where clips are synthetic heads, else landmarks; ``regressor``, which any annotated
            clips can fit; ``landmarks``; or a folder that holds a fitted regressor.
        root: Dataset folder.
        device: Torch device of the fit.
        seconds: Time limit of the fit, which no two machines reach alike; None: by steps only, which repeats.
        steps: Steps of the fit at most.
        split: Split with other identities that the judge's own error is measured on.
        progress: Of the fit.
        size: Edge of the frames that will be judged: its own error is measured on frames of this size; None: as stored.
        fit: Fits a regressor.
        check: Measures its error.

    Raises:
        UserError: No such judge, or nothing to fit it on.
    """
    if name not in ("auto", "regressor", "landmarks"):
        return FrameRegressor.load(Path(name))
    records = read_manifest(root) if name != "landmarks" else []
    if name == "landmarks" or (name == "auto" and not any(record.drawn for record in records)):
        from metrics.judges.landmark_judge import LandmarkJudge

        return LandmarkJudge()
    limits = f"_{steps}steps" if steps != FIT_STEPS else ""
    limits += f"_{seconds:g}s" if seconds is not None else ""
    folder = root / f"{JUDGE_FOLDER}{limits}"
    manifest = file_sha256(root / MANIFEST_NAME)
    fitted = {"manifest": manifest, "limits": {"seconds": seconds, "steps": steps}}
    judge = FrameRegressor.load(folder) if (folder / JUDGE_FILE).is_file() else None
    if judge is None or any(judge.facts.get(key) != value for key, value in fitted.items()):
        training = [record for record in records if record.split == "train"]
        if not training:
            raise UserError(f"{root}: no clips of split 'train' to fit the judge on; give judge=landmarks")
        log.info("fitting the judge of motion on %d clips, once for this dataset", len(training))
        frames = min(FIT_FRAMES, 60 * len(training))
        judge = fit(root, training, device, seconds, steps, frames=frames, progress=progress)
        judge.facts.update(fitted)
    checks = judge.facts.setdefault("held_out", {})
    checked = f"split {split}, {'size as stored' if size is None else f'{size} px'}"
    if checked not in checks:
        others = [record for record in records if record.split == split != "train"]
        checks[checked] = check(judge, root, others, size=size) if others else {}
        try:
            judge.save(folder)
        except (OSError, UserError) as error:
            log.warning("what was found on the judge of motion can't be kept (%s)", error)
    judge.facts["held_out_r2"] = checks[checked]  # of the frames that are judged now
    return judge.to("cpu")
