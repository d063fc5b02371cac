"""Motion intensity: how much the head moves, by scaling window statistics or generated motion block by block.

Head and remaining dimensions follow ``intensity``; the mouth follows ``mouth_intensity`` about the closed
lips, so that p, b and m still close; eyes follow ``eyes_intensity`` alone, so that blinks go on whatever the
head does. Without blocks (the raw basis) every dimension follows ``intensity``.
"""

import torch
from torch import Tensor

from datamodules.errors import UserError
from lightning_modules.generation.options import check_factor


def intensity_factors(
    blocks: dict[str, slice],
    motion_dim: int,
    intensity: float,
    mouth_intensity: float = 1.0,
    eyes_intensity: float = 1.0,
) -> Tensor:
    """Factor ``(M,)`` float32 of every motion dimension; ``blocks`` are the motion basis's, none for the raw basis.

    Raises:
        UserError: A factor is out of range, or mouth or eyes should be scaled in a basis that doesn't know them.
    """
    check_factor("intensity", intensity)
    factors = torch.full((motion_dim,), float(intensity))
    for block, factor in (("mouth", mouth_intensity), ("eyes", eyes_intensity)):
        check_factor(f"{block} intensity", factor)
        if block in blocks:
            factors[blocks[block]] = factor
        elif factor != 1:
            raise UserError(
                f"{block} intensity needs a motion basis with a block for it: this model has none"
            )
    return factors


def scale_statistics(
    mean: Tensor, std: Tensor, source: Tensor, blocks: dict[str, slice], intensity: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Scales the statistics of a window before they enter the diffusion model; those of mouth and eyes stay.

    Args:
        mean: ``(..., M)`` window mean, basis coordinates.
        std: ``(..., M)`` window standard deviation.
        source: ``(..., M)`` motion of the source frame; deviations of the mean from it are scaled.
        blocks: Slices of the blocks; empty for the raw basis.
        intensity: Factor of the head and the rest.
    """
    factors = intensity_factors(blocks, mean.shape[-1], intensity).to(mean)
    return source + factors * (mean - source), factors * std


def scale_motion(
    motion: Tensor,
    centre: Tensor,
    blocks: dict[str, slice],
    intensity: float = 1.0,
    mouth_intensity: float = 1.0,
    eyes_intensity: float = 1.0,
    mouth_closed: Tensor | None = None,
) -> Tensor:
    """Scales generated motion ``(..., T, M)``, and with it the statistics of all its windows.

    Args:
        motion: In basis coordinates.
        centre: ``(..., M)`` fixed point. One for a whole clip (source motion or clip mean): a centre for each
            window would jump between windows.
        blocks: Slices of the blocks; empty for the raw basis.
        intensity: Factor of the head and the rest.
        mouth_intensity: Factor of the mouth.
        eyes_intensity: Factor of the eyes.
        mouth_closed: ``(m,)`` mouth coordinates of closed lips, the mouth's fixed point; the centre's where None.
    """
    factors = intensity_factors(blocks, motion.shape[-1], intensity, mouth_intensity, eyes_intensity).to(
        motion
    )
    if mouth_closed is not None and "mouth" in blocks:
        centre = centre.clone()
        centre[..., blocks["mouth"]] = mouth_closed.to(centre)
    fixed = centre.unsqueeze(-2)
    return fixed + factors * (motion - fixed)
