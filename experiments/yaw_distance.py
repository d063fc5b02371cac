"""Reconstruction by how far the head has turned from the source: where a renderer must show what the portrait hides."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from datamodules.media.pictures import to_float
from lightning_modules.losses.perceptual import PerceptualLoss, UnitFeatures
from metrics.reconstruction import region_errors, squared_error, structural_similarity
from metrics.sharpness import detail_energy

BINS = {"0-3": (0.0, 3.0), "3-10": (3.0, 10.0), "10-15": (10.0, 15.0), "over 15": (15.0, 180.0)}
"""Degrees of yaw between source and frame; a frame on the border is in the higher one."""
CHUNK = 16


class YawDistances:
    """Collects frames of clips and says how well those of each yaw distance were made, beside copying the source.

    Measures, of a bin's frames pooled: ``psnr``; means of ``ssim`` and ``features`` (distance of unit features of
    EfficientNet-Lite0, 0 = equal); ``sharpness``, RMS detail as a share of the real frames'; shares of the squared error of
    copying at mouth and eyes that is taken away. All but the last two are also given for the source frame itself, as
    ``NAME_copy``.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.sums: dict[str, dict[str, float]] = {name: {} for name in BINS}
        self.features, self.device = PerceptualLoss(UnitFeatures()).to(device), device

    def add(self, made: np.ndarray, real: np.ndarray, yaw: np.ndarray, regions: np.ndarray | None) -> None:
        """Frames made and real, ``(T, S, S, 3)`` uint8, of a clip whose first is the source.

        Args:
            made: reconstructions.
            real: the true frames.
            yaw: ``(T,)`` degrees.
            regions: ``(T, 3, 4)`` boxes of mouth and eyes in [0, 1], or None.
        """
        away = np.abs(yaw - yaw[0])
        for name, (low, high) in BINS.items():
            chosen = np.flatnonzero((away >= low) & (away < high))
            for part in np.array_split(chosen[chosen > 0], max(1, -(-len(chosen) // CHUNK))):
                if len(part):
                    boxes = None if regions is None else torch.from_numpy(regions[part]).float()
                    self._add(self.sums[name], made[part], real[part], real[:1], boxes)

    def _add(
        self,
        sums: dict[str, float],
        made: np.ndarray,
        real: np.ndarray,
        source: np.ndarray,
        boxes: torch.Tensor | None,
    ) -> None:
        target = to_float(real)
        found = {"frames": float(len(real)), "pixels": float(real.size), "detail": detail_energy(target)}
        copied = source.repeat(len(real), axis=0)
        for suffix, frames in (("", to_float(made)), ("_copy", to_float(copied))):
            found[f"error{suffix}"] = float(squared_error(frames, target).double().sum())
            found[f"ssim{suffix}"] = float(structural_similarity(frames, target).sum())
            found[f"detail{suffix or '_made'}"] = detail_energy(frames)
            with torch.inference_mode():
                found[f"features{suffix}"] = len(real) * float(
                    self.features.distance(frames.to(self.device), target.to(self.device))
                )
            if boxes is not None:
                parts = region_errors(frames, target, boxes)
                found |= {
                    f"{part}{suffix}": float(value)
                    for part, value in zip(("mouth", "eyes"), parts, strict=True)
                }
        for name, value in found.items():
            sums[name] = sums.get(name, 0.0) + value

    def table(self) -> dict[str, dict[str, float]]:
        """The measures of each bin that has frames."""
        return {name: _measures(sums) for name, sums in self.sums.items() if sums}


def _measures(sums: Mapping[str, float]) -> dict[str, Any]:
    frames = sums["frames"]
    found: dict[str, Any] = {"frames": int(frames)}
    for suffix in ("", "_copy"):
        found[f"psnr{suffix}"] = float(
            10 * np.log10(255**2 * sums["pixels"] / max(sums[f"error{suffix}"], 1e-9))
        )
        found[f"ssim{suffix}"] = sums[f"ssim{suffix}"] / frames
        found[f"features{suffix}"] = sums[f"features{suffix}"] / frames
        found[f"sharpness{suffix}"] = float(
            np.sqrt(sums[f"detail{suffix or '_made'}"] / max(sums["detail"], 1e-9))
        )
    for part in ("mouth", "eyes"):
        if sums.get(f"{part}_copy"):
            found[f"{part}_error_removed"] = 1 - sums[part] / sums[f"{part}_copy"]
    return {name: value if name == "frames" else round(value, 4) for name, value in found.items()}
