"""Noise schedules: how much of the data and how much noise a noisy sample holds at time t.

One view for all: ``x_t = alpha(t) x_0 + sigma(t) noise`` with t in [0, 1], t = 0 the data. The discrete
schedules of DDPM are the values at ``t = k / steps``, k = 1..steps; between them log alpha^2 is interpolated
linearly, so that a sampler may use any times.
"""

import math

import torch
from torch import Tensor

SCHEDULES = ("linear", "cosine", "flow")
DISCRETE_STEPS = 1000
_SMALLEST_ALPHA = 5e-3


def discrete_betas(name: str, steps: int = DISCRETE_STEPS) -> Tensor:
    """Variances ``(steps,)`` of the single noising steps, float64 in (0, 1).

    ``linear``: DDPM, arXiv 2006.11239, section 4: 1e-4 to 0.02 at 1000 steps. ``cosine``: arXiv 2102.09672, equation 17,
    capped at 0.999.
    """
    if name == "linear":
        scale = 1000 / steps
        return torch.linspace(1e-4 * scale, 0.02 * scale, steps, dtype=torch.float64)
    offset = 0.008
    t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    alpha_bar = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)


class NoiseSchedule:
    """The functions alpha(t) and sigma(t) of one schedule.

    Args:
        name: ``"linear"`` and ``"cosine"`` keep the variance (alpha^2 + sigma^2 = 1); ``"flow"`` is the
            straight path alpha = 1 - t, sigma = t of flow matching (arXiv 2210.02747, equation 22 with
            smallest sigma 0).
        steps: Discrete steps of the variance-preserving schedules.
    """

    def __init__(self, name: str, steps: int = DISCRETE_STEPS) -> None:
        self.name = name
        self.steps = steps
        self._log_alpha_bar = torch.zeros(0, dtype=torch.float64)
        if name != "flow":
            log_steps = torch.log1p(-discrete_betas(name, steps)).cumsum(0)
            self._log_alpha_bar = torch.cat([torch.zeros(1, dtype=torch.float64), log_steps])

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Factors of the data and of the noise at times ``t`` in [0, 1], each with its shape and type."""
        if self.name == "flow":
            return 1 - t, t
        table = self._log_alpha_bar.to(t.device)
        position = t.double().clamp(0, 1) * self.steps
        lower = position.floor().long().clamp(max=self.steps - 1)
        log_alpha_bar = torch.lerp(table[lower], table[lower + 1], position - lower)
        alpha = torch.exp(0.5 * log_alpha_bar)
        sigma = torch.sqrt(-torch.expm1(log_alpha_bar))
        return alpha.to(t.dtype), sigma.to(t.dtype)

    def random_times(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Training times ``(count,)``: uniform over the discrete steps; over (0, 1) for the straight path."""
        if self.name == "flow":
            return torch.rand(count, generator=generator).clamp(1e-4, 1 - 1e-4)
        return torch.randint(1, self.steps + 1, (count,), generator=generator) / self.steps

    def sampling_times(self, count: int, target: str) -> Tensor:
        """Times ``(count + 1,)`` float32 that a sampler of ``count`` steps visits: falling, the last one 0.

        Predicted noise says nothing about the data where alpha is almost 0 (it is divided by alpha), so with
        the target ``epsilon`` the walk starts at the latest time where alpha is at least 0.005.
        """
        latest = 1.0
        if target == "epsilon":
            grid = torch.linspace(0, 1, self.steps + 1)
            latest = float(grid[self.alpha_sigma(grid)[0] >= _SMALLEST_ALPHA][-1])
        return torch.linspace(latest, 0, count + 1)


def expand(values: Tensor, like: Tensor) -> Tensor:
    """Gives per-sample values ``(B,)`` trailing axes so that they multiply a tensor ``(B, ...)``."""
    return values.reshape(-1, *([1] * (like.ndim - 1)))
