"""The diffusion process of one experiment: the five axes put together."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from datamodules.errors import UserError
from lightning_modules.diffusion.samplers import SAMPLERS
from lightning_modules.diffusion.schedules import DISCRETE_STEPS, SCHEDULES, NoiseSchedule, expand
from lightning_modules.diffusion.targets import TARGETS, Prediction, make_target, read_target
from lightning_modules.diffusion.weighting import (
    WEIGHTINGS,
    gaussian_kl,
    gaussian_nll,
    learned_log_variance,
    loss_weight,
    posterior,
)

AXES = {"schedule": SCHEDULES, "target": TARGETS, "weighting": WEIGHTINGS, "sampler": tuple(SAMPLERS)}


@dataclass
class GaussianDiffusion:
    """Noise schedule, prediction target, loss weighting, sampler and guidance of an experiment.

    Holds no weights. The first three are fixed by training, so is all that is derived of them; sampler, steps,
    guidance and temperature may be changed afterwards.

    Attributes:
        schedule: ``"linear"``, ``"cosine"`` or ``"flow"``.
        target: ``"epsilon"``, ``"x0"``, ``"v"`` or ``"flow"``.
        weighting: ``"uniform"`` or ``"min_snr"``.
        sampler: ``"ddim"``, ``"dpm_solver_2m"``, ``"ancestral"``, or on the flow schedule ``"euler"``,
            ``"heun"``.
        sampler_steps: Steps of the sampler.
        guidance: Scale of the audio guidance; 1 switches it off.
        statistics_guidance: Scale of the statistics guidance; 1 switches it off.
        mouth_temperature: Factor on the noise that sampling starts from, of the mouth's block of the basis, and on how far
            its estimated statistics are drawn from the expected ones: below 1 lips keep closer to what is likeliest for the
            speech, where windows have statistics by construction at no less motion.
        learned_variance: Whether the network also predicts the variance of the reverse step.
        discrete_steps: Steps of the discrete schedules.
        standardised: Whether windows are diffused in units of their own mean and std, so that samples have the statistics
            that are asked for, see `WindowUnits`; fixed by training, too.
        projected: Whether the window that each step predicts is brought to its statistics where it is not standardised.

    Raises:
        UserError: If a name is unknown or two choices do not go together.
    """

    schedule: str = "cosine"
    target: str = "x0"
    weighting: str = "uniform"
    sampler: str = "dpm_solver_2m"
    sampler_steps: int = 10
    guidance: float = 1.0
    statistics_guidance: float = 1.0
    mouth_temperature: float = 1.0
    learned_variance: bool = False
    discrete_steps: int = DISCRETE_STEPS
    standardised: bool = False
    projected: bool = False

    @property
    def by_construction(self) -> bool:
        """Whether samples have the statistics that are asked for, whatever the network makes of them."""
        return self.standardised or self.projected

    def __post_init__(self) -> None:
        for axis, known in AXES.items():
            if (name := getattr(self, axis)) not in known:
                raise UserError(f"diffusion {axis} {name!r} is unknown: use one of {', '.join(known)}")
        if self.sampler in ("euler", "heun") and self.schedule != "flow":
            raise UserError(
                f"sampler {self.sampler!r} follows the straight path: set schedule=flow or another sampler"
            )
        if self.schedule == "flow" and (self.sampler == "ancestral" or self.learned_variance):
            raise UserError(
                "the flow schedule has no reverse variance: use ddim, dpm_solver_2m, euler or heun"
            )
        if self.standardised and self.projected:
            raise UserError("standardised windows have their statistics: leave projected=true out")
        if not 0 <= self.mouth_temperature <= 100:
            raise UserError(f"mouth_temperature is {self.mouth_temperature}: use a number from 0 to 100")
        if self.sampler_steps < 1:
            raise UserError(f"sampler_steps is {self.sampler_steps}: use at least 1")
        self.noise_schedule = NoiseSchedule(self.schedule, self.discrete_steps)

    def settings(self) -> dict[str, str | int | float | bool]:
        """The constructor's arguments as plain values, for checkpoints."""
        return asdict(self)

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Noisy sample ``alpha x0 + sigma noise``; ``x0`` and ``noise`` ``(B, T, M)``, ``t`` ``(B,)``."""
        alpha, sigma = self.noise_schedule.alpha_sigma(t)
        return expand(alpha, x0) * x0 + expand(sigma, x0) * noise

    def read(self, output: Tensor, noisy: Tensor, t: Tensor) -> Prediction:
        """Predicted data, noise and variance.

        Args:
            output: ``(B, T, M)``, or ``(B, T, 2 M)`` with learned variance: target, then variance.
            noisy: ``(B, T, M)`` noisy sample the network saw.
            t: ``(B,)`` times in [0, 1].
        """
        variance = None
        if self.learned_variance:
            output, variance = output.chunk(2, dim=-1)
        alpha, sigma = (expand(values, noisy) for values in self.noise_schedule.alpha_sigma(t))
        x0, noise = read_target(self.target, output, noisy, alpha, sigma)
        return Prediction(x0, noise, variance)

    def squared_error(self, output: Tensor, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Weighted squared error of the network output, elementwise ``(B, T, M)``."""
        if self.learned_variance:
            output = output.chunk(2, dim=-1)[0]
        alpha, sigma = self.noise_schedule.alpha_sigma(t)  # each (B,)
        weight = loss_weight(self.weighting, self.target, alpha, sigma)
        goal = make_target(self.target, x0, noise, expand(alpha, x0), expand(sigma, x0))
        return expand(weight, x0) * (output - goal).square()

    def variational_bound(self, output: Tensor, x0: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
        """Terms of the variational bound that train the variance, nats, elementwise (arXiv 2102.09672, 3.1).

        The mean is detached, so that only the variance learns from it. Motion is continuous: the first step's
        term is the density of a Gaussian, where images have a discretised one.

        Args:
            output: ``(B, T, 2 M)``.
            x0: ``(B, T, M)`` data.
            noisy: ``(B, T, M)`` noisy sample at ``t``.
            t: ``(B,)`` times k / steps.
        """
        prediction = self.read(output, noisy, t)
        assert prediction.variance is not None
        # The step from t to the time s before it; the first step, which ends in the data, has a term of its own below.
        earliest = torch.full_like(t, 2 / self.noise_schedule.steps, dtype=torch.float64)
        first = expand(t.double() < 1.5 / self.noise_schedule.steps, x0)
        t = torch.maximum(t.double(), earliest)
        alpha_t, sigma_t = self.noise_schedule.alpha_sigma(t)
        alpha_s, sigma_s = self.noise_schedule.alpha_sigma(t - 1 / self.noise_schedule.steps)
        # q(x_s | x_t, x_0) with the true data and p(x_s | x_t) with the predicted: factors, and bounds of the variance.
        terms = posterior(alpha_t, sigma_t, alpha_s, sigma_s)
        from_noisy, from_data, lower, upper = (expand(term, x0).to(x0) for term in terms)
        log_variance = learned_log_variance(prediction.variance, lower.log(), upper.log())
        mean = from_noisy * noisy + from_data * prediction.x0.detach()
        true_mean = from_noisy * noisy + from_data * x0
        # How far the two are apart, (B, T, M).
        kl = gaussian_kl(true_mean, lower.log(), mean, log_variance)
        return torch.where(first, gaussian_nll(x0, prediction.x0.detach(), log_variance), kl)

    def sample(
        self,
        network: Callable[[Tensor, Tensor], Tensor],
        noise: Tensor,
        generator: torch.Generator | None = None,
        steps: int | None = None,
        corrected: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Walks from standard normal noise to data, both ``(B, T, M)``.

        Args:
            network: ``(noisy (B, T, M), t (B,)) -> output``, conditions and guidance inside.
            noise: Where the walk starts.
            generator: Source of further noise (ancestral sampling).
            steps: Sampler steps; the setting's where None.
            corrected: What is made of the data ``(B, T, M)`` that each step predicts; the noise follows it.
        """

        def predict(noisy: Tensor, time: Tensor) -> Prediction:
            t = time.to(noisy).expand(noisy.shape[0])
            found = self.read(network(noisy, t), noisy, t)
            if corrected is None:
                return found
            x0 = corrected(found.x0)
            alpha, sigma = (expand(values, noisy) for values in self.noise_schedule.alpha_sigma(t))
            return Prediction(x0, (noisy - alpha * x0) / sigma.clamp(min=1e-6), found.variance)

        times = self.noise_schedule.sampling_times(steps or self.sampler_steps, self.target)
        return SAMPLERS[self.sampler](predict, noise, times, self.noise_schedule, generator)
