"""Fitting of the judge of synthetic faces, and how well it reads frames of identities that it never saw."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.clips.annotations import read_annotations
from datamodules.clips.manifest import ClipRecord
from datamodules.errors import UserError
from datamodules.media.clip_reading import ClipReader
from datamodules.media.pictures import to_float
from metrics.judges.frame_regressor import TARGETS, WORKING_SIZE, FrameRegressor, reduced

Progress = Callable[[int, int, str], None]


@dataclass
class LabelledFrames:
    """Frames of several clips with their truth."""

    images: Tensor  # (N, 3, S, S) uint8
    targets: Tensor  # (N, 6) float32 in the order of TARGETS
    clips: list[str] = field(default_factory=list)  # ids of the clips they come from


def _choose_frames(blink: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Random frames of a clip, a quarter of them with lids at least partly closed where there are as many."""
    shut, every = np.flatnonzero(blink > 0.15), generator.permutation(len(blink))
    picked = generator.permutation(shut)[: count // 4]
    others = every[~np.isin(every, picked)][: count - len(picked)]
    return np.sort(np.concatenate([picked, others]))


def load_labelled_frames(
    root: Path, records: Sequence[ClipRecord], frames: int, seed: int = 0, progress: Progress | None = None
) -> LabelledFrames:
    """Read about ``frames`` random frames in all, evenly from all clips, of one frame size, that have annotations.

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
        reader = ClipReader(root / record.video)
        count = min(len(reader), len(truth["lip_opening"]))
        chosen = _choose_frames(truth["blink"][:count], each, generator)
        images.append(reduced(reader.get(chosen.tolist())))
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

    Of images ``(N, 3, S, S)`` in [-1, 1] and labels ``(N, 6)``; mirroring turns the sign of yaw and roll.
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
            progress(min(int(share * 100), 100), 100, f"fitting the judge ({step} steps), per cent")
    judge.facts = {"steps": step, "frames": len(labels), "clips": len(data.clips), "seed": seed}
    return judge.eval()


def held_out_r2(
    judge: FrameRegressor,
    root: Path,
    records: Sequence[ClipRecord],
    frames: int = 2000,
    size: int | None = None,
) -> dict[str, float]:
    """Share of variance that the judge explains on frames of other identities, per target that varies in these.

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
    scores = zip(TARGETS, 1 - error / spread, spread, strict=True)
    return {name: round(float(score), 4) for name, score, varies in scores if varies > 0}
