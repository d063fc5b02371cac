"""What a training is judged by while it validates: groups of metrics that share one judge and one look at the frames.

A measure loads its judge on demand, so that a config may name one whose file is not there: `metrics.callbacks` then says
so before the training starts.
"""

import logging
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric

from datamodules import assets
from datamodules.errors import UserError
from metrics.base import ClipMean
from metrics.fid import FrechetInceptionDistance, KernelInceptionDistance
from metrics.judges.landmark_judge import LandmarkJudge
from metrics.judges.syncnet import SHIPPED_EXPERT, SyncNet, load_expert
from metrics.landmarks import face_boxes, find_landmarks, rigid_curves
from metrics.lpips import LPIPS
from metrics.motion import (
    JITTER,
    MotionJudge,
    blink_rate,
    head_motion,
    jitter,
    measure_motion,
    mouth_motion,
)
from metrics.sync import SHORTEST, SyncSettings, face_crops, lip_sync

PUBLIC_SYNCNET = "syncnet_v2.model"
LANDMARKER = "face_landmarker.task"
log = logging.getLogger(__name__)


class Measure:
    """Some metrics of real and rendered frames.

    Attributes:
        names: Of the values, as they are logged behind ``val/``.
        shortest: Frames that a clip must have to be judged.
        metrics: By name, once loaded.
    """

    names: tuple[str, ...] = ()
    shortest = 1

    def __init__(self) -> None:
        self.metrics: dict[str, Metric] = {}

    def load(self) -> None:
        """Load the judge.

        Raises:
            UserError: Its file is absent or can't be read.
        """
        raise NotImplementedError

    def update(self, real: Tensor, rendered: Tensor, waveform: Tensor | None = None) -> None:
        """Add some pictures, or one clip.

        Args:
            real: ``(N, 3, H, W)`` uint8, or float in [-1, 1].
            rendered: Likewise, picture by picture what should look like ``real``.
            waveform: ``(640 N,)`` float in [-1, 1] at 16 kHz, the speech of a clip; None for pictures.
        """
        raise NotImplementedError

    def compute(self) -> dict[str, float]:
        """Values by name over what all processes have added, the same on each; NaN where nothing could be judged."""
        return {name: float(metric.compute()) for name, metric in self.metrics.items()}

    def move(self, device: torch.device | str) -> None:
        """Bring judge and states to a device."""
        with torch.inference_mode(False):  # parameters moved within it could not be used outside
            for metric in self.metrics.values():
                metric.to(device)

    def release(self) -> None:
        """Forget what was added, and leave the device to the training."""
        for metric in self.metrics.values():
            metric.reset()
        self.move("cpu")


def own_names(names: Iterable[str], network: nn.Module | None, label: str | None) -> tuple[str, ...]:
    """The names, with a label behind them where another network than the published one looks.

    Raises:
        UserError: A network without a label: the result would pass for the published measure.
    """
    if network is not None and not label:
        raise UserError(f"{'/'.join(names)} by another network needs a label that its name carries")
    return tuple(name if network is None else f"{name}_{label}" for name in names)


class PictureDistance(Measure):
    """FID and KID from one pass of the Inception. Of too few pictures for a table: it compares epochs.

    Args:
        kid: Whether to give KID, too: 8 KB a picture, and next to no time up to 1,000 pictures.
        batch_size: Pictures at a time.
        network: Another feature network (see `FrechetInceptionDistance`).
        label: Its name, which the values then carry: ``fid_LABEL``.
    """

    def __init__(
        self,
        kid: bool = True,
        batch_size: int = 32,
        network: nn.Module | None = None,
        label: str | None = None,
    ) -> None:
        super().__init__()
        self.names = own_names(("fid", "kid") if kid else ("fid",), network, label)
        self.network, self.batch_size = network, batch_size

    def load(self) -> None:
        """Load the Inception, unless another network is given."""
        fid = FrechetInceptionDistance(self.network)
        both = (fid, KernelInceptionDistance(fid.inception.network))
        self.metrics = dict(zip(self.names, both, strict=False))

    def update(self, real: Tensor, rendered: Tensor, waveform: Tensor | None = None) -> None:
        """Add pictures."""
        first, *others = self.metrics.values()
        for images, is_real in ((real, True), (rendered, False)):
            for part in images.split(self.batch_size):
                features = first.inception(part.to(first.device))  # type: ignore[operator]
                for metric in (first, *others):
                    metric.update(features, real=is_real)


class PerceptualDistance(Measure):
    """LPIPS of pictures against those that they should look like: of reconstructions, never of free generation.

    Args:
        network: Another network (see `LPIPS`).
        label: Its name, which the value then carries: ``lpips_LABEL``.
    """

    def __init__(self, network: nn.Module | None = None, label: str | None = None) -> None:
        super().__init__()
        self.names = own_names(("lpips",), network, label)
        self.network = network

    def load(self) -> None:
        """Load AlexNet, unless another network is given."""
        self.metrics = {self.names[0]: LPIPS(self.network)}

    def update(self, real: Tensor, rendered: Tensor, waveform: Tensor | None = None) -> None:
        """Add pictures."""
        metric = self.metrics[self.names[0]]
        metric.update(rendered.to(metric.device), real.to(metric.device))


def whole_faces(frames: Tensor) -> Tensor:
    """The faces ``(T, 3, 224, 224)`` of a clip ``(T, 3, H, W)`` uint8, cut by boxes of landmarks.

    Raises:
        ValueError: No face that can be followed.
    """
    return face_crops(frames, face_boxes(find_landmarks(frames)))


class LipSync(Measure):
    """LSE-D, LSE-C and offset of clips.

    Args:
        judge: ``public`` (the published SyncNet, which sees the face as its authors' script cuts it, by boxes of landmarks),
            ``expert`` (the shipped one of the synthetic faces, which needs no boxes), or a folder with another expert.
        minimum: Frames that a clip must have, at least 6.
        batch_size: Windows at a time.

    Raises:
        UserError: ``minimum`` below 6.
    """

    names = ("lse_d", "lse_c", "av_offset")

    def __init__(self, judge: str = "public", minimum: int = 100, batch_size: int = 32) -> None:
        super().__init__()
        if minimum < SHORTEST:
            raise UserError(f"minimum is {minimum} frames, lip sync needs {SHORTEST} or more")
        self.judge, self.shortest, self.batch_size = judge, minimum, batch_size

    def load(self) -> None:
        """Load the SyncNet and, for the public one, make sure that landmarks can be found."""
        if self.judge == "public":
            network = SyncNet.load(assets.find(PUBLIC_SYNCNET))
            assets.find(LANDMARKER)
        else:
            network = load_expert(SHIPPED_EXPERT if self.judge == "expert" else self.judge)
        self.network = network
        self.metrics = {name: ClipMean(median=name == "av_offset") for name in self.names}

    def update(self, real: Tensor, rendered: Tensor, waveform: Tensor | None = None) -> None:
        """Add a clip.

        Raises:
            ValueError: Pictures without sound.
        """
        if waveform is None:
            raise ValueError("lip sync needs clips with sound")
        if self.judge == "public":
            try:
                rendered = whole_faces(rendered)
            except ValueError as error:  # what an early model renders may be no face
                log.warning("a clip is not judged for lip sync: %s", error)
                return
        settings = SyncSettings(minimum_frames=self.shortest)
        found = lip_sync(self.network, rendered, [waveform], settings, self.batch_size)[0]
        for name, value in zip(self.names, (found.distance, found.confidence, found.offset), strict=True):
            self.metrics[name].update(value)

    def move(self, device: torch.device | str) -> None:
        """Bring judge and states to a device."""
        super().move(device)
        self.network.to(device)


class MotionOfClips(Measure):
    """Head motion, mouth motion, blink rate and jitter of clips, as a judge sees them on the frames.

    Jitter is that of the rigid landmarks in eye distances where the judge finds landmarks, the detector's own included
    (`ifmdm evaluate` takes that off); else that of the head's rotation in degrees.

    Args:
        judge: Gives the judge when it is called, e.g. `metrics.judges.landmark_judge.LandmarkJudge`.

    Raises:
        UserError: It can't be called.
    """

    names = ("head_motion", "mouth_motion", "blink_rate", "jitter")
    shortest = JITTER.shortest

    def __init__(self, judge: Callable[[], MotionJudge]) -> None:
        super().__init__()
        if not callable(judge):
            raise UserError(
                f"judge={judge}: give what makes a judge of motion, or null for the whole measure"
            )
        self._make = judge

    def load(self) -> None:
        """Load the judge, or fit it where it is one that is fitted."""
        self.judge = self._make()
        functions = (head_motion, mouth_motion, blink_rate, jitter)
        self.metrics = {name: ClipMean(f) for name, f in zip(self.names, functions, strict=True)}

    def update(self, real: Tensor, rendered: Tensor, waveform: Tensor | None = None) -> None:
        """Add a clip."""
        frames = np.ascontiguousarray(rendered.cpu().permute(0, 2, 3, 1).numpy())
        if isinstance(self.judge, LandmarkJudge):
            curves, points = self.judge.look(frames)
            rigid = rigid_curves(points)
        else:
            curves = measure_motion(frames, self.judge)
            rigid = curves.rotation
        seen = (curves.rotation, curves.lip_opening, curves.blink, rigid)
        for metric, curve in zip(self.metrics.values(), seen, strict=True):
            metric.update(curve)
