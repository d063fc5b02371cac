"""How motion is generated: the options of ``ifmdm generate``. Loads no torch, so that bad numbers are refused at once."""

from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING

from datamodules.errors import UserError

if TYPE_CHECKING:
    from lightning_modules.generation.talking_head import TalkingHead

STATISTICS_MODES = ("estimated", "none", "source", "previous")
GIVEN_MEANS = ("source", "previous")
"""Modes that ask for a mean of their own."""
SCALINGS = ("motion", "statistics")
MAX_FACTOR = 10
"""Largest intensity or temperature that is taken for meant: from 2 or 3 on faces smear."""
MAX_GUIDANCE = 100
"""Largest guidance likewise; far above it numbers overflow."""

MAX_STEPS = 1000
"""Most sampler steps; as many as the diffusion process has in its usual discrete form."""

KINDS = {
    Real: (
        "intensity",
        "mouth_intensity",
        "eyes_intensity",
        "std_quantile",
        "guidance",
        "statistics_guidance",
        "temperature",
        "mouth_temperature",
    ),
    Integral: ("steps", "seed"),
}
OPTIONAL = ("std_quantile", "guidance", "statistics_guidance", "steps", "mouth_temperature")


@dataclass(frozen=True)
class GenerationOptions:
    """How motion is generated.

    Attributes:
        intensity: Factor on how much head and the remaining motion move, >= 0; 1 = as estimated, 0 = the head rests.
        scaling: What ``intensity`` scales: the ``statistics`` that the windows are given, or the generated ``motion``. None:
            the statistics where the model follows them by construction, else the motion.
        mouth_intensity: Factor on the mouth's motion, >= 0; needs a model whose basis has blocks.
        eyes_intensity: Factor on the motion of lids about those of the portrait, likewise; below 1 blinks stay half open.
        statistics: Where each window's motion statistics come from: ``estimated`` (sampled from the estimator), ``none``
            (neither), ``source`` (mean = motion of the portrait, no std), ``previous`` (mean = last frame of the previous
            window, no std), or a ``.npz`` file with ``mean`` (M) and ``std`` (M) in basis coordinates.
            What is not given is dropped, or, of windows that need it, drawn from those of all training windows.
        std_quantile: Replaces the std by this quantile (0..1) of the training windows' std; keeps the mode's mean.
        steps: Sampler steps; None = the model's own.
        guidance: Scale of the audio guidance; None = the model's own, 1 = off.
        statistics_guidance: Scale of the guidance by the statistics, likewise; does nothing where none are given.
        temperature: Factor on the noise that sampling starts from, >= 0; 1 = as in training.
        mouth_temperature: Further factor on that of the mouth; None = the model's own. Below 1 lips keep to the speech.
        seed: Of all random numbers, together with the speech: two speeches get two head motions.

    Raises:
        UserError: A number out of range, or no such choice or file.
    """

    intensity: float = 1.0
    scaling: str | None = None
    mouth_intensity: float = 1.0
    eyes_intensity: float = 1.0
    statistics: str = "estimated"
    std_quantile: float | None = None
    steps: int | None = None
    guidance: float | None = None
    statistics_guidance: float | None = None
    temperature: float = 1.0
    mouth_temperature: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for kind, names in KINDS.items():
            for name in names:
                value = getattr(self, name)
                missing = value is None and name in OPTIONAL
                if not missing and (not isinstance(value, kind) or isinstance(value, bool)):
                    raise UserError(f"{name} is {value!r}, a value of another type than a number")
        check_factor("intensity", self.intensity)
        check_factor("mouth intensity", self.mouth_intensity)
        check_factor("eyes intensity", self.eyes_intensity)
        check_factor("temperature", self.temperature)
        if self.mouth_temperature is not None:
            check_factor("mouth temperature", self.mouth_temperature)
        if self.scaling is not None and self.scaling not in SCALINGS:
            raise UserError(f"scaling is {self.scaling!r}: choose one of {', '.join(SCALINGS)}")
        if self.std_quantile is not None and not 0 <= self.std_quantile <= 1:
            raise UserError(f"std quantile is {self.std_quantile}: use a number from 0 to 1")
        if self.statistics not in STATISTICS_MODES and not Path(str(self.statistics)).is_file():
            modes = ", ".join(STATISTICS_MODES)
            raise UserError(f"{self.statistics}: no such statistics file; give a .npz file or one of {modes}")
        if self.steps is not None and not 1 <= self.steps <= MAX_STEPS:
            raise UserError(f"steps is {self.steps}: use a whole number from 1 to {MAX_STEPS}")
        for name in ("guidance", "statistics_guidance"):
            if (scale := getattr(self, name)) is not None and not abs(scale) <= MAX_GUIDANCE:
                told = name.replace("_", " ")
                raise UserError(f"{told} is {scale}: use a number of at most {MAX_GUIDANCE}")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed is {self.seed}: use a whole number from 0 to 2^63 - 1")

    def scaling_of(self, by_construction: bool) -> str:
        """What the intensities scale, of a model whose windows have the statistics that they are given, or of another.

        Of the former both are one up to 1, and are called by one name.
        """
        if by_construction and self.intensity <= 1:
            return "statistics"
        return self.scaling or ("statistics" if by_construction else "motion")

    def check(self, model: "TalkingHead") -> None:
        """Refuse what a model can't follow, before any work is done.

        Raises:
            UserError: A mouth or eyes intensity for a basis without such a block, statistics of another model or for one
                that is not steered by them, or what only an estimator knows for a model without one.
        """
        from lightning_modules.generation.motion_intensity import intensity_factors
        from lightning_modules.generation.statistics_conditioning import read_statistics

        factors = self.intensity, self.mouth_intensity, self.eyes_intensity
        intensity_factors(model.basis.blocks, model.basis.motion_dim, *factors)
        of_file = self.statistics not in STATISTICS_MODES
        if of_file:
            read_statistics(Path(self.statistics), model.basis.motion_dim)
        told = f"statistics {self.statistics}"
        for token, option, asked in (
            ("mean", told, of_file or self.statistics in GIVEN_MEANS),
            ("std", told, of_file),
            ("std", "std quantile", self.std_quantile is not None),
        ):
            if asked and token not in model.denoiser.tokens and not model.diffusion.by_construction:
                raise UserError(f"{option}: this model is not steered by a {token}; leave it out")
        if model.estimator is None and (self.statistics == "estimated" or self.std_quantile is not None):
            raise UserError(
                "no estimator of motion statistics here: choose statistics none, source, previous or a file"
            )


def check_factor(name: str, value: float) -> None:
    """Refuse a factor out of range.

    Raises:
        UserError: It is below 0, over ``MAX_FACTOR`` or no number.
    """
    if not 0 <= value <= MAX_FACTOR:
        raise UserError(f"{name} is {value}: use a number from 0 to {MAX_FACTOR}")
