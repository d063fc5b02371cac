"""Prediction targets: what the network is asked for, and the way back to data and noise.

All four are linear in (x_0, noise) and, with x_t known, carry the same information: ``epsilon`` is the noise
(arXiv 2006.11239), ``x0`` the data, ``v = alpha noise - sigma x_0`` (arXiv 2202.00512, appendix D), ``flow =
noise - x_0`` the velocity of the straight path (arXiv 2210.02747, 2209.03003).
"""

from typing import NamedTuple

import torch
from torch import Tensor

TARGETS = ("epsilon", "x0", "v", "flow")
_TINY = 1e-6


class Prediction(NamedTuple):
    """What a network's output says at one time.

    Attributes:
        x0: ``(B, T, M)`` predicted data.
        noise: ``(B, T, M)`` predicted noise.
        variance: ``(B, T, M)`` position of the log variance between its bounds, about [-1, 1]; None where the
            network predicts none (arXiv 2102.09672, equation 15).
    """

    x0: Tensor
    noise: Tensor
    variance: Tensor | None = None


def make_target(name: str, x0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What the network should return for data and noise, both ``(B, T, M)``; their factors broadcast."""
    if name == "epsilon":
        return noise
    if name == "x0":
        return x0
    return alpha * noise - sigma * x0 if name == "v" else noise - x0


def read_target(
    name: str, output: Tensor, noisy: Tensor, alpha: Tensor, sigma: Tensor
) -> tuple[Tensor, Tensor]:
    """Data and noise of a network output and the noisy sample it saw, all ``(B, T, M)``; inverts ``make_target``."""
    if name == "epsilon":
        return (noisy - sigma * output) / alpha.clamp(min=_TINY), output
    if name == "x0":
        return output, (noisy - alpha * output) / sigma.clamp(min=_TINY)
    if name == "v":
        norm = alpha.square() + sigma.square()
        return (alpha * noisy - sigma * output) / norm, (sigma * noisy + alpha * output) / norm
    x0 = (noisy - sigma * output) / (alpha + sigma)
    return x0, x0 + output


def x0_sensitivity(name: str, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Factor by which an error of the output becomes an error of the predicted data."""
    if name == "epsilon":
        return sigma / alpha.clamp(min=_TINY)
    if name == "x0":
        return torch.ones_like(alpha)
    return sigma / (alpha.square() + sigma.square() if name == "v" else alpha + sigma)
