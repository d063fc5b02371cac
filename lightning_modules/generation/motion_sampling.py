"""Generating motion for speech of any length, window after window; needs no Lightning."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from lightning_modules.diffusion.gaussian_diffusion import GaussianDiffusion
from lightning_modules.diffusion.guidance import CFGDenoiser
from lightning_modules.diffusion.window_units import WindowUnits
from lightning_modules.networks.diffusion_transformer import DiffusionTransformer

StatisticsProvider = Callable[[int, Tensor | None], tuple[Tensor | None, Tensor | None]]
"""``(window index, hint and generated frames (1, 65, M) of the window before or None) -> (mean, std)``, each
``(1, M)`` or None for a dropped one."""


def no_statistics(index: int, previous: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Drops mean and std of every window: the mode ``none``."""
    return None, None


@torch.no_grad()
def sample_motion(
    network: DiffusionTransformer,
    diffusion: GaussianDiffusion,
    audio: Tensor,
    hint: Tensor,
    statistics: StatisticsProvider = no_statistics,
    steps: int | None = None,
    guidance: float | None = None,
    statistics_guidance: float | None = None,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Generates the motion ``(1, T, M)`` of a whole speech, one window of 64 frames after the other.

    The last generated frame of a window is the hint of the next. Everything is in basis coordinates.

    Args:
        network: Diffusion transformer, in evaluation mode.
        diffusion: The process it was trained with; sampler, steps and scales are its settings unless given
            here.
        audio: ``(1, 2T, D)`` audio features at 50 Hz, T at least 1.
        hint: ``(1, M)`` motion of the frame before the first: the source's.
        statistics: Gives mean and std of every window.
        steps: Sampler steps.
        guidance: Audio guidance scale; 1 = off.
        statistics_guidance: Statistics guidance scale; 1 = off.
        temperature: Factor on the noise that each window starts from.
        generator: Source of all noise, on the CPU.

    Raises:
        ValueError: If the audio holds an odd number of features or none, or a standardised window gets no statistics.
    """
    if audio.shape[1] == 0 or audio.shape[1] % 2:
        raise ValueError(f"{audio.shape[1]} audio features: two for each of at least one frame are needed")
    total, window = audio.shape[1] // 2, network.window
    audio_scale = diffusion.guidance if guidance is None else guidance
    statistics_scale = diffusion.statistics_guidance if statistics_guidance is None else statistics_guidance
    previous: Tensor | None = None
    motions = []
    for index, start in enumerate(range(0, total, window)):
        # The window's speech (1, 128, D).
        part = audio[:, 2 * start : 2 * (start + window)]
        if missing := 2 * window - part.shape[1]:
            # As in training: past the end the last frame's two features are repeated.
            part = torch.cat([part, part[:, -2:].repeat(1, missing // 2, 1)], dim=1)
        # From noise to the motion of its 64 frames, given its statistics.
        mean, std = statistics(index, previous)
        before, units, corrected = hint[:, None], None, None
        if diffusion.standardised:
            if mean is None or std is None:
                raise ValueError("windows in units of their statistics need both mean and std")
            units = WindowUnits.of(mean, std)
            before = units.encode(before)
            corrected = partial(units.fitted, before=before)
        denoiser = CFGDenoiser(network, part, before[:, 0], mean, std, audio_scale, statistics_scale)
        noise = torch.randn((1, window, network.motion_dim), generator=generator).to(hint)
        found = diffusion.sample(denoiser, temperature * noise, generator, steps, corrected)  # (1, 64, M)
        motions.append(found if units is None else units.decode(found))
        # What the next window goes on from.
        previous = torch.cat([hint.unsqueeze(1), motions[-1]], dim=1)
        hint = motions[-1][:, -1]
    return torch.cat(motions, dim=1)[:, :total]
