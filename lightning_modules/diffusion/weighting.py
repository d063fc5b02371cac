"""Loss weights over time, and the variational term for a learned variance."""

import math

import torch
from torch import Tensor

from lightning_modules.diffusion.targets import x0_sensitivity

WEIGHTINGS = ("uniform", "min_snr")


def loss_weight(name: str, target: str, alpha: Tensor, sigma: Tensor, gamma: float = 5.0) -> Tensor:
    """Weights ``(B,)`` >= 0 of the squared error of the network output, for factors ``(B,)`` of data and noise.

    ``uniform``: 1 on whatever the network predicts. ``min_snr``: min(SNR, gamma) on the squared error of the predicted data,
    whatever the target (arXiv 2303.09556, section 3.4).
    """
    if name == "uniform":
        return torch.ones_like(alpha)
    ratio = (alpha.square() / sigma.square().clamp(min=1e-8)).clamp(max=gamma)
    return ratio * x0_sensitivity(target, alpha, sigma).square()


def posterior(
    alpha_t: Tensor, sigma_t: Tensor, alpha_s: Tensor, sigma_s: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The Gaussian q(x_s | x_t, x_0) of an earlier time s < t of a variance-preserving schedule.

    arXiv 2006.11239, equation 7, with any step from s to t in the place of a single one; the factors of data and noise
    broadcast.

    Returns:
        The factors of x_t and of x_0 in its mean, its variance, and the variance of the step from s to t (the
        upper bound of the reverse variance).
    """
    ratio = alpha_t / alpha_s
    step_variance = (sigma_t.square() - ratio.square() * sigma_s.square()).clamp(min=1e-20)
    from_noisy = ratio * sigma_s.square() / sigma_t.square()
    from_data = alpha_s * step_variance / sigma_t.square()
    return from_noisy, from_data, step_variance * sigma_s.square() / sigma_t.square(), step_variance


def learned_log_variance(output: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Log variance between its bounds, those of posterior and noising step (arXiv 2102.09672, equation 15).

    ``output`` of the network is -1 at the lower and 1 at the upper bound.
    """
    fraction = (output + 1) / 2
    return fraction * upper + (1 - fraction) * lower


def gaussian_kl(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    """KL divergence, in nats, of two Gaussians with independent dimensions; elementwise."""
    difference = (mean - other_mean).square() * torch.exp(-other_log_variance)
    return 0.5 * (
        other_log_variance - log_variance - 1 + torch.exp(log_variance - other_log_variance) + difference
    )


def gaussian_nll(value: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Negative log density, in nats, of independent Gaussians; elementwise."""
    return 0.5 * (math.log(2 * math.pi) + log_variance + (value - mean).square() * torch.exp(-log_variance))
