"""A judge of synthetic faces without downloads: a small network that reads pose, lips and lids off a frame.

It is fitted on true frames of the training identities only, and every result states how well it reads frames
of identities that it never saw (`held_out_r2`). It is a judge and never a loss.
"""

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from datamodules.clips.annotations import read_annotations
from datamodules.clips.manifest import ClipRecord
from datamodules.errors import UserError
from datamodules.files import whole_output
from datamodules.media.pictures import to_float
from datamodules.media.video import VideoReader
from metrics.motion import MotionCurves
from metrics.precision import single_precision

JUDGE_FILE = "judge.json"
"""What the folder of a fitted judge holds, beside its weights."""
TARGETS = ("yaw", "pitch", "roll", "lip_opening", "lip_width", "blink")
FACE = (0.0, 0.0, 1.0, 1.0)
MOUTH = (0.25, 0.5, 0.75, 0.95)
EYES = (0.2, 0.25, 0.8, 0.6)
VIEWS = ((FACE, (64, 64)), (MOUTH, (56, 64)), (EYES, (40, 64)))
"""What the network sees: a box x0, y0, x1, y1 of the frame and the height and width it is resized to."""
WORKING_SIZE = 128
"""Larger frames are reduced to this edge first: mouth and eyes then fill their views at double resolution."""

Progress = Callable[[int, int, str], None]


def _views(frames: Tensor) -> list[Tensor]:
    """Cut the views out of frames ``(N, 3, S, S)`` in [-1, 1]."""
    height, width = frames.shape[-2:]
    views = []
    for (x0, y0, x1, y1), size in VIEWS:
        cut = frames[..., round(y0 * height) : round(y1 * height), round(x0 * width) : round(x1 * width)]
        views.append(F.interpolate(cut, size, mode="bilinear", antialias=True, align_corners=False))
    return views


class _Tower(nn.Module):
    """Pixels folded 2x2 into channels, three strided convolutions, a linear layer over what is left."""

    def __init__(self, size: tuple[int, int], width: int, features: int) -> None:
        super().__init__()
        channels = [12, 2 * width, 4 * width, 6 * width]
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        for before, after in itertools.pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.SiLU()]
        cells = -(-size[0] // 16) * -(-size[1] // 16)
        self.layers = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(channels[-1] * cells, features), nn.SiLU()
        )

    def forward(self, view: Tensor) -> Tensor:
        return self.layers(view)  # (N, 3, h, w) -> (N, features)


class FrameRegressor(nn.Module):
    """Reads yaw, pitch, roll (degrees), lip opening, lip width (over eye distance), blink off frames.

    Attributes:
        name: Name of the judge in results.
        facts: How it was fitted (plain JSON values); `held_out_r2` results are kept here too.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int = 16, features: int = 96) -> None:
        super().__init__()
        self.name = "frame-regressor"
        self.settings = {"width": width, "features": features}
        self.facts: dict = {}
        self.towers = nn.ModuleList([_Tower(size, width, features) for _, size in VIEWS])
        self.head = nn.Sequential(
            nn.Linear(len(VIEWS) * features, 128), nn.SiLU(), nn.Linear(128, len(TARGETS))
        )
        self.register_buffer("mean", torch.zeros(len(TARGETS)))
        self.register_buffer("std", torch.ones(len(TARGETS)))

    def forward(self, frames: Tensor) -> Tensor:
        """Standardised targets ``(N, 6)`` of frames ``(N, 3, S, S)`` float in [-1, 1]."""
        features = [tower(view) for tower, view in zip(self.towers, _views(frames), strict=True)]
        return self.head(torch.cat(features, dim=1))

    @torch.no_grad()
    def predict(self, frames: np.ndarray, batch_size: int = 64) -> np.ndarray:
        """Targets ``(T, 6)`` float32 in their units, in the order of ``TARGETS``.

        Args:
            frames: ``(T, H, W, 3)`` uint8 RGB, square.
            batch_size: Frames at a time.
        """
        self.eval()
        device = self.mean.device
        values = []
        with single_precision(device):
            for start in range(0, len(frames), batch_size):
                batch = _reduce(frames[start : start + batch_size]).to(device)
                values.append(self(to_float(batch)) * self.std + self.mean)
        return torch.cat(values).cpu().numpy()

    def measure(self, frames: np.ndarray) -> MotionCurves:
        """Motion curves of the frames ``(T, H, W, 3)`` uint8 RGB of one clip."""
        values = self.predict(frames)
        return MotionCurves(values[:, :3], values[:, 3], values[:, 5].clip(0, 1))

    def _weights(self) -> bytes:
        return save({name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()})

    @property
    def sha256(self) -> str:
        """Hash of the weights, part of the protocol hash."""
        return hashlib.sha256(self._weights()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write ``judge.safetensors`` and ``judge.json`` into the folder, each in one step."""
        folder.mkdir(parents=True, exist_ok=True)
        description = {"name": self.name, "targets": TARGETS, "settings": self.settings, "facts": self.facts}
        for file, content in (
            ("judge.safetensors", self._weights()),
            (JUDGE_FILE, json.dumps(description, indent=2).encode()),
        ):
            with whole_output(folder / file) as temporary:
                temporary.write_bytes(content)

    @classmethod
    def load(cls, folder: Path) -> "FrameRegressor":
        """Read a judge that `save` wrote.

        Raises:
            UserError: No judge in the folder, or another version's.
        """
        path = Path(folder) / JUDGE_FILE
        if not path.is_file():
            raise UserError(
                f"{folder}: holds no fitted judge ({JUDGE_FILE}); name the folder 'judge' of a dataset"
            )
        try:
            description = json.loads(path.read_text())
            judge = cls(**description["settings"])
            judge.load_state_dict(load_file(path.with_suffix(".safetensors")))
            judge.facts = description["facts"]
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise UserError(f"{folder}: holds no judge that can be read ({error}); fit it anew") from error
        return judge.eval()


def _reduce(frames: np.ndarray) -> Tensor:
    """Frames ``(N, H, W, 3)`` as uint8 ``(N, 3, S, S)`` of at most the working size."""
    images = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    if images.shape[-1] <= WORKING_SIZE:
        return images
    size = (WORKING_SIZE, WORKING_SIZE)
    small = F.interpolate(images.float(), size, mode="bilinear", antialias=True, align_corners=False)
    return small.round().clamp(0, 255).to(torch.uint8)


@dataclass
class LabelledFrames:
    """Frames of several clips with their truth.

    Attributes:
        images: ``(N, 3, S, S)`` uint8.
        targets: ``(N, 6)`` float32 in the order of ``TARGETS``.
        clips: Ids of the clips they come from.
    """

    images: Tensor
    targets: Tensor
    clips: list[str] = field(default_factory=list)


def _choose_frames(blink: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Random frames of a clip, a quarter of them with lids at least partly closed where there are as many."""
    shut, every = np.flatnonzero(blink > 0.15), generator.permutation(len(blink))
    picked = generator.permutation(shut)[: count // 4]
    others = every[~np.isin(every, picked)][: count - len(picked)]
    return np.sort(np.concatenate([picked, others]))


def load_labelled_frames(
    root: Path, records: Sequence[ClipRecord], frames: int, seed: int = 0, progress: Progress | None = None
) -> LabelledFrames:
    """Read about ``frames`` random frames, evenly from all clips that have annotations.

    Args:
        root: Dataset folder.
        records: Clips of it, one frame size.
        frames: Number of frames in all.
        seed: Seed of the choice.
        progress: Called with clips done, clips in all and a text.

    Raises:
        UserError: No clip has annotations.
    """
    usable = [record for record in records if record.annotations]
    if not usable:
        raise UserError(
            f"{root}: no clip with annotations to fit or check a judge on; use the landmark judge"
        )
    generator = np.random.default_rng(seed)
    images, targets = [], []
    each = -(-frames // len(usable))
    for number, record in enumerate(usable):
        truth = read_annotations(root / str(record.annotations)).arrays
        reader = VideoReader(root / record.video)
        count = min(len(reader), len(truth["lip_opening"]))
        chosen = _choose_frames(truth["blink"][:count], each, generator)
        images.append(_reduce(reader.get(chosen.tolist())))
        columns = [truth["rotation"], truth["lip_opening"], truth["lip_width"], truth["blink"]]
        targets.append(
            np.concatenate([column[chosen].reshape(len(chosen), -1) for column in columns], axis=1)
        )
        if progress:
            progress(number + 1, len(usable), "reading frames for the judge")
    labels = torch.from_numpy(np.concatenate(targets).astype(np.float32))
    return LabelledFrames(torch.cat(images), labels, [record.id for record in usable])


def _augment(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Vary what the truth does not depend on, so that blurred or off-colour generated frames are read alike.

    Args:
        images: ``(N, 3, S, S)`` float in [-1, 1].
        labels: ``(N, 6)``; mirroring turns the sign of yaw and roll.
        generator: Source of the draws.
    """

    def uniform(shape: tuple[int, ...], low: float, high: float) -> Tensor:
        return torch.rand(shape, generator=generator) * (high - low) + low

    count, _, size, _ = images.shape
    mirrored = torch.rand(count, generator=generator) < 0.5
    images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    signs = torch.tensor([-1.0, 1, -1, 1, 1, 1])
    labels = torch.where(mirrored[:, None], labels * signs, labels)
    reach = max(1, size // 40)
    down, across = (int(v) for v in torch.randint(-reach, reach + 1, (2,), generator=generator))
    padded = F.pad(images, (reach,) * 4, mode="replicate")
    images = padded[..., reach + down : reach + down + size, reach + across : reach + across + size]
    zoom = int(size * float(uniform((1,), 0.9, 1.12)))
    images = F.interpolate(images, (zoom, zoom), mode="bilinear", align_corners=False)
    margin = max(0, size - zoom + 1) // 2
    images = F.pad(images, (margin,) * 4, mode="replicate")
    corner = (images.shape[-1] - size) // 2
    images = images[..., corner : corner + size, corner : corner + size]
    smaller = int(size * float(uniform((1,), 0.4, 1.0)))
    if float(uniform((1,), 0, 1)) < 0.5:
        soft = F.interpolate(images, (smaller, smaller), mode="bilinear", antialias=True, align_corners=False)
        images = F.interpolate(soft, (size, size), mode="bilinear", align_corners=False)
    gain = uniform((count, 1, 1, 1), 0.75, 1.25) * uniform((count, 3, 1, 1), 0.85, 1.15)
    images = images * gain + uniform((count, 3, 1, 1), -0.15, 0.15)
    return images + 0.03 * torch.randn(images.shape, generator=generator), labels


def fit_frame_regressor(
    root: Path,
    records: Sequence[ClipRecord],
    device: str = "cpu",
    seconds_budget: float | None = 90.0,
    steps: int = 1500,
    seed: int = 0,
    batch_size: int = 48,
    frames: int = 6000,
    progress: Progress | None = None,
) -> FrameRegressor:
    """Fit the judge on true frames.

    Args:
        root: Dataset folder.
        records: Clips of the training split (clips without annotations are left out).
        device: Torch device.
        seconds_budget: The learning rate falls so that training ends within this time; None: by steps only,
            which repeats exactly.
        steps: Optimisation steps at most.
        seed: Seed of initialisation, frame choice and augmentation.
        batch_size: Frames a step.
        frames: Frames read in all.
        progress: Called with work done, work in all and a text.

    Raises:
        UserError: No annotated clip.
    """
    data = load_labelled_frames(root, records, frames, seed, progress)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = FrameRegressor()
    generator = torch.Generator().manual_seed(seed)
    judge.mean.copy_(data.targets.mean(dim=0))
    judge.mean[[0, 2]] = 0  # mirroring makes yaw and roll symmetric
    judge.std.copy_((data.targets - judge.mean).square().mean(dim=0).sqrt().clamp_min(1e-4))
    labels = (data.targets - judge.mean) / judge.std
    judge.to(device).train()
    optimizer = torch.optim.AdamW(judge.parameters(), lr=1e-3, weight_decay=0.05)
    started, step, share = time.monotonic(), 0, 0.0
    while share < 1:
        for group in optimizer.param_groups:
            group["lr"] = 2.5e-3 * min(1.0, (step + 1) / 30) * 0.5 * (1 + float(np.cos(np.pi * share)))
        chosen = torch.randint(len(labels), (batch_size,), generator=generator)
        images, wanted = _augment(to_float(data.images[chosen]), labels[chosen], generator)
        loss = F.smooth_l1_loss(judge(images.to(device)), wanted.to(device), beta=1.5)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        elapsed = (time.monotonic() - started) / seconds_budget if seconds_budget else 0.0
        share = max(step / steps, elapsed)
        if progress and (step % 50 == 0 or share >= 1):
            progress(min(int(share * 100), 100), 100, f"fitting the judge, step {step}")
    judge.facts = {"steps": step, "frames": len(labels), "clips": len(data.clips), "seed": seed}
    return judge.eval()


def held_out_r2(
    judge: FrameRegressor,
    root: Path,
    records: Sequence[ClipRecord],
    frames: int = 2000,
    size: int | None = None,
) -> dict[str, float]:
    """Share of variance that the judge explains on frames of other identities, per target.

    Args:
        judge: A fitted judge.
        root: Dataset folder.
        records: Clips of identities that the judge never saw.
        frames: Number of frames to check.
        size: Edge that the frames are resized to first, as those that will be judged are; None: as stored.

    Raises:
        UserError: No annotated clip.
    """
    data = load_labelled_frames(root, records, frames)
    images, edge = data.images, min(size or WORKING_SIZE, WORKING_SIZE)
    if size is not None and images.shape[-1] != edge:
        images = F.interpolate(images, (edge, edge), mode="bilinear", antialias=True, align_corners=False)
    predicted = torch.from_numpy(judge.predict(images.permute(0, 2, 3, 1).numpy()))
    error = (predicted - data.targets).square().sum(dim=0)
    spread = (data.targets - data.targets.mean(dim=0)).square().sum(dim=0)
    scores = 1 - error / spread
    return {name: round(float(score), 4) for name, score in zip(TARGETS, scores, strict=True)}
