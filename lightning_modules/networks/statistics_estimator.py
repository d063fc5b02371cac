"""Motion-statistics estimator: a distribution over how far, and around what, a head will move."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.networks.audio_encoder import AttentionPooling
from lightning_modules.networks.layers import full_precision
from lightning_modules.networks.processes import ItemDropout

STD_FLOOR = 0.02
"""Added to a std before the logarithm: a motionless window has a finite target (basis coordinates)."""
SMALLEST_SCALE = 0.05
"""Smallest scale of a mixture component in standardised targets: keeps the likelihood from spiking."""
QUANTILES = 101
RIDGE = 0.01
"""Of the linear part, in variances of the motion, which are about 1."""
SHRUNK = 0.1
"""Share of no correlation in the correlations of the target's dimensions: windows are few."""
REACH = 2.5
"""How many stds a window's mean is from the frame before at most; of the windows of synthetic heads 98 in 100 are nearer."""


def window_statistics(motion: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and unbiased standard deviation, each ``(B, M)``, over the hint and the frames of a window.

    Args:
        motion: ``(B, 1 + T, M)`` hint frame, then T frames.
        valid: ``(B, T)`` bool, False on frames past the end of a clip; all count where None. The hint always counts; the
            std of it alone is 0.
    """
    if valid is None:
        return motion.mean(dim=1), motion.std(dim=1)
    counts = torch.cat([torch.ones_like(valid[:, :1]), valid], dim=1)
    weight = counts.unsqueeze(-1).to(motion)  # (B, 1 + T, 1)
    count = weight.sum(dim=1)
    mean = (weight * motion).sum(dim=1) / count
    squares = (weight * (motion - mean.unsqueeze(1)).square()).sum(dim=1)
    return mean, torch.sqrt(squares / (count - 1).clamp(min=1))


class StatisticsMixture(NamedTuple):
    """Mixture of K Gaussians over what a `StatisticsEstimator` models, whose dimensions vary together as a factor says.

    Attributes:
        logits: ``(B, K)`` unnormalised log weights.
        means: ``(B, K, 2M)``.
        scales: ``(B, K, 2M)``, above 0, of the independent variables that the factor joins.
        factor: ``(2M, 2M)`` lower triangular: a Gaussian is ``mean + factor @ (scales * noise)``. None: the dimensions are
            independent.
    """

    logits: Tensor
    means: Tensor
    scales: Tensor
    factor: Tensor | None = None

    def expand(self, count: int) -> "StatisticsMixture":
        """The only one, for so many conditions."""
        logits, means, scales = (
            value.expand(count, *value.shape[1:]) for value in (self.logits, self.means, self.scales)
        )
        return StatisticsMixture(logits, means, scales, self.factor)

    def log_prob(self, target: Tensor) -> Tensor:
        """Log density, nats; ``(B, 2M)`` -> ``(B,)``."""
        away, stretched = (
            target.unsqueeze(1) - self.means,
            torch.zeros((), device=target.device),
        )  # (B, K, 2M)
        if self.factor is not None:
            away = torch.linalg.solve_triangular(self.factor, away.transpose(-1, -2), upper=False).transpose(
                -1, -2
            )
            stretched = self.factor.diagonal().abs().log().sum()
        z = away / self.scales
        each = -(0.5 * z.square() + self.scales.log() + 0.5 * math.log(2 * math.pi)).sum(dim=-1)  # (B, K)
        return torch.logsumexp(torch.log_softmax(self.logits, -1) + each, dim=-1) - stretched

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One draw for each condition: ``(B, 2M)``. Random numbers come from the CPU."""
        # One of the K Gaussians, then a point of it.
        weights = torch.softmax(self.logits, -1).cpu()
        component = torch.multinomial(weights, 1, generator=generator).to(self.means.device)
        index = component.unsqueeze(-1).expand(-1, 1, self.means.shape[-1])
        noise = torch.randn(self.means[:, 0].shape, generator=generator).to(self.means)
        noise = self.scales.gather(1, index).squeeze(1) * noise
        return self.means.gather(1, index).squeeze(1) + (
            noise if self.factor is None else noise @ self.factor.t()
        )

    def mean(self) -> Tensor:
        """What is expected: ``(B, 2M)``."""
        return (torch.softmax(self.logits, -1).unsqueeze(-1) * self.means).sum(dim=1)

    def cdf(self, target: Tensor) -> Tensor:
        """Marginal distribution function of every dimension, the probability integral transform (PIT): ``(B, 2M)``.

        For a calibrated model its values over many windows are uniform in [0, 1].
        """
        scales = self.scales
        if self.factor is not None:
            scales = (scales.square() @ self.factor.square().t()).sqrt()
        below = torch.special.ndtr((target.unsqueeze(1) - self.means) / scales)
        return (torch.softmax(self.logits, -1).unsqueeze(-1) * below).sum(dim=1)

    def crps(self, target: Tensor, samples: int = 64, generator: torch.Generator | None = None) -> Tensor:
        """Continuous ranked probability score of every dimension, from samples (fair form; lower is better).

        ``E|X - y| - E|X - X'| / 2`` with the unbiased estimate of the second term (Gneiting and Raftery 2007,
        equation 21); ``(B, 2M)`` in the units of the target. ``samples`` draws for each condition, at least 2.
        """
        draws = torch.stack([self.sample(generator) for _ in range(samples)])  # (S, B, 2M)
        error = (draws - target).abs().mean(dim=0)
        order = torch.arange(1, samples + 1, device=draws.device).view(-1, 1, 1)
        # Sum over pairs |x_i - x_j| of sorted values: each is added (2 i - S - 1) times.
        spread = ((2 * order - samples - 1) * draws.sort(dim=0).values).sum(dim=0)
        return error - spread / (samples * (samples - 1))


def statistics_target(mean: Tensor, std: Tensor, origin: Tensor) -> Tensor:
    """What the estimator models: ``(B, M)`` mean, std and the frame that the mean is counted from -> ``(B, 2M)``."""
    return torch.cat([mean - origin, torch.log(std + STD_FLOOR)], dim=-1)


def target_statistics(target: Tensor, origin: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse of ``statistics_target``: ``(B, 2M)``, ``(B, M)`` -> mean and std >= 0, each ``(B, M)``."""
    offset, log_std = target.chunk(2, dim=-1)
    return origin + offset, (log_std.exp() - STD_FLOOR).clamp(min=0)


def within_reach(mean: Tensor, std: Tensor, before: Tensor) -> Tensor:
    """A window's mean, no further from the frame before than windows of that std get; all ``(B, M)``."""
    reach = REACH * (std + STD_FLOOR)
    return before + (mean - before).clamp(-reach, reach)


class StatisticsEstimator(nn.Module):
    """Models a window's motion statistics given the speech, the source and the window before.

    All motion is in basis coordinates. Targets are standardised by moments fitted on the training windows,
    and the network starts as that unconditional Gaussian: it has to earn every departure from it.

    Args:
        audio_encoder: ``(B, 2T, D) -> (B, 2T, E)`` with attributes ``in_dim`` and ``out_dim``; its own, not
            shared with the diffusion model.
        motion_dim: Motion coefficients M.
        appearance_dim: Size of the appearance latent.
        width: Hidden size.
        components: Gaussians in the mixture.
        hint: Whether it sees the frame before the window and models what of the means is no linear function of that and
            of the source frame; else it counts the mean from the source frame.
        correlated: Whether the dimensions vary together as they do in the training windows; else each by itself.
        dropout: Dropout on every input embedding and the hidden layer; the data are few.
    """

    linear: Tensor
    correlation_factor: Tensor | None
    target_mean: Tensor
    target_scale: Tensor
    std_quantiles: Tensor

    def __init__(
        self,
        audio_encoder: nn.Module,
        motion_dim: int = 20,
        appearance_dim: int = 512,
        width: int = 128,
        components: int = 4,
        dropout: float = 0.2,
        hint: bool = False,
        correlated: bool = False,
    ) -> None:
        super().__init__()
        self.motion_dim, self.appearance_dim, self.components = motion_dim, appearance_dim, components
        self.hint = hint
        self.audio_encoder = audio_encoder
        audio_dim = int(audio_encoder.out_dim)  # type: ignore[arg-type]
        self.pooling = AttentionPooling(audio_dim)
        self.audio_embedding = nn.Linear(audio_dim, width)
        self.appearance_embedding = nn.Sequential(
            nn.LayerNorm(appearance_dim), nn.Linear(appearance_dim, width)
        )
        self.source_embedding = nn.Linear(motion_dim, width)
        self.hint_embedding = nn.Linear(motion_dim, width) if hint else None
        self.previous_embedding = nn.Linear(2 * motion_dim, width)
        self.no_previous = nn.Parameter(torch.empty(width))
        self.input_dropout = ItemDropout(dropout)
        self.body = nn.Sequential(
            nn.LayerNorm((5 if hint else 4) * width),
            nn.Linear((5 if hint else 4) * width, width),
            nn.GELU(),
            ItemDropout(dropout),
            nn.Linear(width, width),
            nn.GELU(),
        )
        self.head = nn.Linear(width, components * (1 + 4 * motion_dim))
        self.register_buffer("target_mean", torch.zeros(2 * motion_dim))
        self.register_buffer("target_scale", torch.ones(2 * motion_dim))
        self.register_buffer("std_quantiles", torch.ones(QUANTILES, motion_dim))
        if hint:
            self.register_buffer("linear", torch.zeros(2 * motion_dim, 2 * motion_dim))
        self.register_buffer("correlation_factor", torch.eye(2 * motion_dim) if correlated else None)
        self._initialize()

    def _initialize(self) -> None:
        """Xavier weights; a nearly zero head, component means spread a little so that they can part."""
        encoder = set(self.audio_encoder.modules()) | set(self.pooling.modules())
        for module in self.modules():
            if isinstance(module, nn.Linear) and module not in encoder:
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.no_previous, std=0.02)
        nn.init.normal_(self.head.weight, std=1e-3)
        with torch.no_grad():
            means = self.head.bias.view(self.components, -1)[:, 1 : 1 + 2 * self.motion_dim]
            means.copy_(0.2 * torch.randn(means.shape))

    def _expected(self, source: Tensor, hint: Tensor) -> Tensor:
        """What of the target's means is a linear function of the two frames, but for a constant: ``(B, 2M)``, 0 for stds."""
        with full_precision(hint.device):
            return torch.cat([hint, source], dim=-1).float() @ self.linear

    def target(self, mean: Tensor, std: Tensor, source: Tensor, hint: Tensor) -> Tensor:
        """What is modelled ``(B, 2M)`` of a window's mean and std, source motion and frame before, each ``(B, M)``."""
        if not self.hint:
            return statistics_target(mean, std, source)
        return statistics_target(mean, std, hint) - self._expected(source, hint)

    def statistics(self, target: Tensor, source: Tensor, hint: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and std >= 0 of a sampled target; inverse of ``target`` for what windows can have.

        With a hint the std is one of the training windows, but for their outermost hundredths, and the mean no further from
        the hint than windows of that std get.
        """
        if not self.hint:
            return target_statistics(target, source)
        mean, std = target_statistics(target + self._expected(source, hint), hint)
        std = std.clamp(self.std_quantiles[1], self.std_quantiles[-2])
        return within_reach(mean, std, hint), std

    def fit(self, mean: Tensor, std: Tensor, source: Tensor, hint: Tensor) -> None:
        """Sets the target's moments, the quantiles of the std and, with a hint, the linear part.

        Means and stds of training windows, motion of their source frames and of the frames before them are ``(N, M)`` in
        basis coordinates, N >= 2.
        """
        if self.hint:  # ridge regression
            target, frames = (
                statistics_target(mean, std, hint).double(),
                torch.cat([hint, source], -1).double(),
            )
            target, frames = target - target.mean(0), frames - frames.mean(0)
            gram = frames.t() @ frames + RIDGE * len(frames) * torch.eye(frames.shape[1]).to(frames)
            # Of means alone: what a line says of stds grows with how far a portrait is from all others.
            means = slice(self.motion_dim)
            self.linear.zero_()[:, means].copy_(torch.linalg.solve(gram, frames.t() @ target[:, means]))
        target = self.target(mean, std, source, hint)
        self.target_mean.copy_(target.mean(dim=0))
        self.target_scale.copy_(target.std(dim=0).clamp(min=1e-3))
        if self.correlation_factor is not None:  # of what the moments leave
            rest = ((target - target.mean(dim=0)) / self.target_scale).double()
            together = rest.t() @ rest / max(len(rest) - 1, 1)
            together = (1 - SHRUNK) * together + SHRUNK * torch.eye(len(together)).to(together)
            self.correlation_factor.copy_(torch.linalg.cholesky(together))
        self.std_quantiles.copy_(torch.quantile(std.float(), torch.linspace(0, 1, QUANTILES).to(std), dim=0))

    def std_quantile(self, quantile: float) -> Tensor:
        """Stds ``(M,)`` that a share ``quantile`` in [0, 1] of the training windows stays below."""
        if not 0 <= quantile <= 1:
            raise ValueError(f"quantile {quantile} is outside [0, 1]")
        position = quantile * (QUANTILES - 1)
        lower = min(int(position), QUANTILES - 2)
        return torch.lerp(self.std_quantiles[lower], self.std_quantiles[lower + 1], position - lower)

    def unconditional(self) -> StatisticsMixture:
        """The Gaussian fitted on the training windows, as a mixture of one: the baseline."""
        mean = self.target_mean.view(1, 1, -1)
        return self._mixture(mean.new_zeros(1, 1), mean, torch.ones_like(mean))

    def _mixture(self, logits: Tensor, means: Tensor, scales: Tensor) -> StatisticsMixture:
        """Of means in units of the target and scales in those of its moments."""
        if self.correlation_factor is None:
            return StatisticsMixture(logits, means, self.target_scale * scales)
        return StatisticsMixture(logits, means, scales, self.target_scale[:, None] * self.correlation_factor)

    def forward(
        self,
        audio: Tensor,
        appearance: Tensor,
        source: Tensor,
        hint: Tensor,
        previous: Tensor,
        has_previous: Tensor,
    ) -> StatisticsMixture:
        """Distribution of the window's ``target``.

        Args:
            audio: ``(B, 2T, D)`` audio features of the window at 50 Hz.
            appearance: ``(B, 512)`` appearance latent of the source frame.
            source: ``(B, M)`` motion of the source frame.
            hint: ``(B, M)`` motion of the frame before the window.
            previous: ``(B, 2, M)`` mean and std of the previous window; ignored where there is none.
            has_previous: ``(B,)`` bool.
        """
        # The statistics of the window before, standardised as the target is.
        mean, std = previous.unbind(1)
        before = self.target(mean, std.clamp(min=0), source, hint)
        before = self.previous_embedding((before - self.target_mean) / self.target_scale)  # (B, W)
        # One embedding (B, W) for each input; a learned vector where there was no window before.
        inputs = [
            self.audio_embedding(self.pooling(self.audio_encoder(audio))),
            self.appearance_embedding(appearance),
            self.source_embedding(source),
            torch.where(has_previous[:, None], before, self.no_previous),
        ]
        if self.hint_embedding is not None:
            inputs.append(self.hint_embedding(hint - source))
        hidden = torch.cat([self.input_dropout(part) for part in inputs], dim=-1)  # (B, 4 W or 5 W)
        # Weight, means and scales of each Gaussian; a head of zeros gives standardised scales of 1.
        raw = self.head(self.body(hidden)).unflatten(-1, (self.components, -1))  # (B, K, 1 + 4 M)
        logits, means, log_scales = raw.split([1, 2 * self.motion_dim, 2 * self.motion_dim], dim=-1)
        spread = nn.functional.softplus(log_scales + math.log(math.e - 1))
        scales = SMALLEST_SCALE + (1 - SMALLEST_SCALE) * spread
        # Back to the units of the target.
        return self._mixture(logits.squeeze(-1), self.target_mean + self.target_scale * means, scales)
