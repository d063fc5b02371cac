"""The judges of an evaluation: loaded where their files are, listed with the reason and the command where they are not."""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from torch import Tensor, nn

from datamodules import assets
from datamodules.clips.manifest import MANIFEST_NAME, file_sha256, read_manifest
from datamodules.errors import UserError
from metrics.evaluation.protocol import Protocol as EvaluationProtocol
from metrics.evaluation.views import Embed, View, Watch, look
from metrics.judges.frame_regressor import JUDGE_FILE, FrameRegressor, fit_frame_regressor, held_out_r2
from metrics.motion import MotionJudge

FIT_FRAMES, FIT_STEPS = 6000, 600
JUDGE_FOLDER = "judge"
"""Of a dataset: the judge that protocols mean. One fitted within other limits has a folder that says so."""
NO_FACES = "no model of real faces judges drawn ones"
Found = TypeVar("Found")
Progress = Callable[[int, int, str], None]
log = logging.getLogger(__name__)


class SyncJudge(Protocol):
    """Lip sync of one clip: values by name for each of some sounds ``(640 T,)``.

    It raises ValueError where there is no track of a face, or the clip is too short.
    """

    def __call__(
        self,
        frames: Tensor,
        points: np.ndarray | None,
        sounds: list[np.ndarray],
        protocol: EvaluationProtocol,
    ) -> list[dict[str, float]]:
        """Judge frames ``(T, 3, H, W)`` uint8 with landmarks ``(T, 478, 3)`` in pixels, or None without."""


@dataclass
class Judges:
    """The judges at hand, by the slots that measures name.

    Attributes:
        watch: ``motion`` and ``landmarks``: looks at frames.
        embed: ``embedder``: of faces.
        lpips: ``lpips``: network of two pictures.
        sync: ``sync``: of lips and sound.
        inception: ``inception``: features of pictures.
        i3d: ``i3d``: features of windows.
        hashes: Slot -> sha256 of its weights; a slot that is not here is not judged.
        names: Slot -> name of the judge.
        facts: What is known of how far the judge of motion can be trusted.
        absent: Slot -> why its judge is not there.
    """

    watch: Watch
    embed: Embed | None = None
    lpips: nn.Module | None = None
    sync: SyncJudge | None = None
    inception: nn.Module | None = None
    i3d: nn.Module | None = None
    hashes: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def look(self, frames: np.ndarray, protocol: EvaluationProtocol) -> View:
        """Look at frames ``(T, H, W, 3)`` uint8 with the judges of single frames."""
        return look(frames, self.watch, self.embed, protocol.faceless)

    def weights(self) -> dict[str, str]:
        """Name -> sha256 of each judge."""
        return {name: self.hashes[slot] for slot, name in self.names.items()}

    def load(self, slot: str, name: str, build: Callable[[], tuple[Found, str]]) -> Found | None:
        """Build a judge and its sha256, or note why it is not there."""
        try:
            judge, self.hashes[slot] = build()
        except UserError as error:
            log.warning("%s: not judged (%s)", slot, error)
            self.absent[slot] = str(error)
            return None
        self.names[slot] = name
        return judge


class SyncNetJudge:
    """LSE-D, LSE-C and offset by a SyncNet.

    Args:
        network: `metrics.judges.syncnet.SyncNet`.
        boxes: Whether faces are cut out by landmark boxes; else the whole frame is the face.
    """

    def __init__(self, network: Any, boxes: bool) -> None:
        self.network, self.boxes = network.requires_grad_(False).eval(), boxes

    def __call__(
        self,
        frames: Tensor,
        points: np.ndarray | None,
        sounds: list[np.ndarray],
        protocol: EvaluationProtocol,
    ) -> list[dict[str, float]]:
        """See `SyncJudge`."""
        import torch

        from metrics.landmarks import face_boxes
        from metrics.sync import face_crops, lip_sync

        if self.boxes and points is not None:
            frames = face_crops(frames, face_boxes(points, protocol.landmarks), protocol.face_crops)
        least = protocol.sync.minimum_frames
        if len(frames) < least:
            raise ValueError(f"{len(frames)} frames, lip sync is judged from {least} on")
        waveforms = [torch.from_numpy(sound).float() for sound in sounds]
        found = lip_sync(self.network, frames, waveforms, protocol.sync)
        return [
            {"lse_d": one.distance, "lse_c": one.confidence, "av_offset": float(one.offset)} for one in found
        ]


def motion_judges(judge: MotionJudge) -> Judges:
    """A judge of motion alone: landmarks too by the one of real faces, as a fitted regressor knows none."""
    facts = {"name": judge.name, **getattr(judge, "facts", {})}
    judges = Judges(
        getattr(judge, "look", None) or (lambda frames: (judge.measure(frames), None)),
        hashes={"motion": judge.sha256},
        names={"motion": judge.name},
        facts=facts,
    )
    if hasattr(judge, "look"):
        judges.hashes["landmarks"], judges.names["landmarks"] = judge.sha256, judge.name
    else:
        judges.absent["landmarks"] = NO_FACES
    return judges


def load_judges(judge: MotionJudge, protocol: EvaluationProtocol, families: Collection[str]) -> Judges:
    """All judges that are asked for and whose files are there.

    Args:
        judge: Of motion: MediaPipe's of real faces, or a fitted one of drawn faces, which no face model can judge and whose
            lip sync the shipped expert judges.
        protocol: Settings.
        families: ``generation``, ``reconstruction`` or both.
    """
    from metrics.judges import inception, syncnet

    def file(name: str, build: Callable[[Path], Found]) -> Callable[[], tuple[Found, str]]:
        return lambda: (build(path := assets.find(name)), file_sha256(path))

    def embedder() -> tuple[Embed, str]:
        from metrics.judges.face_embedder import FaceEmbedder

        found = FaceEmbedder(settings=protocol.alignment)
        return found.embed, found.sha256

    def expert() -> tuple[SyncJudge, str]:
        network = syncnet.load_expert()
        return SyncNetJudge(network, boxes=False), network.sha256

    def public(path: Path) -> SyncJudge:
        return SyncNetJudge(syncnet.SyncNet.load(path), boxes=True)

    judges = motion_judges(judge)
    if "landmarks" in judges.hashes:
        judges.embed = judges.load("embedder", "mobilefacenet", embedder)
        judges.sync = judges.load("sync", "syncnet_v2", file("syncnet_v2.model", public))
    else:
        judges.absent["embedder"] = NO_FACES
        judges.sync = judges.load("sync", "sync expert", expert)
    if "reconstruction" in families:
        from metrics.lpips import ALEXNET_FILE, load_lpips

        judges.lpips = judges.load("lpips", "alexnet", file(ALEXNET_FILE, load_lpips))
    if "generation" in families:
        judges.inception = judges.load(
            "inception", "inception", file(inception.INCEPTION_FILE, inception.load_fid_inception)
        )
        judges.i3d = judges.load("i3d", "i3d", file(inception.I3D_FILE, inception.load_i3d))
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
        progress: Called with work done, work in all and a text.
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
    limits = [f"{steps}steps"] if steps != FIT_STEPS else []
    limits += [f"{seconds:g}s"] if seconds is not None else []
    folder = root / "_".join([JUDGE_FOLDER, *limits])
    fitted = {
        "manifest": file_sha256(root / MANIFEST_NAME),
        "limits": {"seconds": seconds, "steps": steps},
    }
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
