"""Motion intensity: how much the head moves, by scaling window statistics or generated motion block by block.

Head and remaining dimensions follow ``intensity``; eyes stay as they are, so that blinks go on; the mouth
follows ``mouth_intensity`` about the closed lips, so that p, b and m still close. Without blocks (the raw
basis) every dimension follows ``intensity``.
"""

import torch
from torch import Tensor

from datamodules.errors import UserError
from lightning_modules.generation.options import check_factor
from lightning_modules.networks.motion_basis import MotionBasis

SMALLEST = 1e-3
"""A factor below it stops all motion."""


def intensity_factors(
    blocks: dict[str, slice], motion_dim: int, intensity: float, mouth_intensity: float = 1.0
) -> Tensor:
    """Factor ``(M,)`` float32 of every motion dimension; ``blocks`` are the motion basis's, none for the raw basis.

    Raises:
        UserError: A factor is out of range, or the mouth should be scaled in a basis without a mouth.
    """
    check_factor("intensity", intensity)
    check_factor("mouth intensity", mouth_intensity)
    if mouth_intensity != 1 and "mouth" not in blocks:
        raise UserError("mouth intensity needs a motion basis with a mouth block: this model has none")
    factors = torch.full((motion_dim,), float(intensity))
    if "mouth" in blocks:
        factors[blocks["mouth"]] = mouth_intensity
    if "eyes" in blocks:
        factors[blocks["eyes"]] = 1.0
    return factors


class IntensityScaling:
    """Scales what a window is told before it is made, about the portrait's own motion; the mouth about the closed lips.

    Args:
        basis: Motion basis.
        source: ``(1, M)`` motion of the source frame, basis coordinates.
        intensity: Factor of the head and the rest.
        mouth_intensity: Factor of the mouth.

    Raises:
        UserError: See `intensity_factors`.
    """

    def __init__(
        self, basis: MotionBasis, source: Tensor, intensity: float = 1.0, mouth_intensity: float = 1.0
    ) -> None:
        blocks = basis.blocks
        self.factors = intensity_factors(blocks, source.shape[-1], intensity, mouth_intensity).to(source)
        self.centre = source
        if "mouth" in blocks and mouth_intensity != 1:
            self.centre = source.clone()
            self.centre[..., blocks["mouth"]] = basis.closed[blocks["mouth"]].to(source)

    def of_statistics(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and std of a window, each ``(1, M)``, scaled."""
        return self.centre + self.factors * (mean - self.centre), self.factors * std

    def undone(self, motion: Tensor) -> Tensor:
        """Scaled motion ``(1, M)`` as it would be at intensity 1; where nothing moves, the centre."""
        moved = (motion - self.centre) / self.factors.clamp(min=SMALLEST)
        return self.centre + torch.where(self.factors < SMALLEST, 0.0, moved)


def scale_motion(
    motion: Tensor,
    centre: Tensor,
    blocks: dict[str, slice],
    intensity: float = 1.0,
    mouth_intensity: float = 1.0,
    mouth_closed: Tensor | None = None,
) -> Tensor:
    """Scales generated motion ``(..., T, M)`` itself: what intensity means where no statistics steer the generation.

    Args:
        motion: In basis coordinates.
        centre: ``(..., M)`` fixed point. One for a whole clip (source motion or clip mean): a centre for each
            window would jump between windows.
        blocks: Slices of the blocks; empty for the raw basis.
        intensity: Factor of the head and the rest.
        mouth_intensity: Factor of the mouth.
        mouth_closed: ``(m,)`` mouth coordinates of closed lips, the mouth's fixed point; the centre's where None.
    """
    factors = intensity_factors(blocks, motion.shape[-1], intensity, mouth_intensity).to(motion)
    if mouth_closed is not None and "mouth" in blocks:
        centre = centre.clone()
        centre[..., blocks["mouth"]] = mouth_closed.to(centre)
    fixed = centre.unsqueeze(-2)
    return fixed + factors * (motion - fixed)
