"""Generating motion for speech of any length, window after window; needs no Lightning."""

import hashlib
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.batches import window_starts
from lightning_modules.diffusion.gaussian_diffusion import GaussianDiffusion
from lightning_modules.diffusion.guidance import CFGDenoiser
from lightning_modules.diffusion.window_units import WindowUnits, going_on
from lightning_modules.networks.diffusion_transformer import DiffusionTransformer

StatisticsProvider = Callable[[int, Tensor], tuple[Tensor | None, Tensor | None]]
"""``(first frame of the window, motion so far) -> (mean, std)``, each ``(1, M)`` or None for a dropped one. The motion
``(1, 1 + F, M)`` is the frame before the speech and its first F frames: all that is before the window."""
MARKS = 48
"""Bits of a speech that go into the seed of its motion."""


def speech_seed(seed: int, audio: Tensor) -> int:
    """Seed of all random numbers of one speech: with the same seed two speeches get two head motions.

    It is made of which parts of the speech are further from its mean than most, so that rounding hardly ever changes it:
    features that were stored in half precision give the same motion.

    Args:
        seed: what a user asks for.
        audio: ``(1, 2T, D)`` audio features.
    """
    away = audio.float() - audio.float().mean(
        dim=1, keepdim=True
    )  # of features of any mean, layer-normed ones, too
    levels = F.adaptive_avg_pool1d(away.square().mean(dim=-1).sqrt(), MARKS)[0]  # (MARKS,)
    bits = (levels > levels.mean() + max(0.1 * float(levels.std()), 1e-2)).tolist()  # of silence none
    digest = hashlib.sha256(f"{seed} {bits}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1  # of 63 bits


def no_statistics(start: int, motion: Tensor) -> tuple[Tensor | None, Tensor | None]:
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
    temperature: float | Tensor = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Generates the motion ``(1, T, M)`` of a whole speech, one window of 64 frames after the other (`window_starts`).

    A window goes on from the last generated frame, its hint, or from a prefix of those. Everything is in basis coordinates.

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
        temperature: Factor on the noise that each window starts from; or one for each coefficient, ``(M,)``.
        generator: Source of all noise, on the CPU.

    Raises:
        ValueError: If the audio holds an odd number of features or none, or a standardised window gets no statistics.
    """
    if audio.shape[1] == 0 or audio.shape[1] % 2:
        raise ValueError(f"{audio.shape[1]} audio features: two for each of at least one frame are needed")
    total, window, prefix = audio.shape[1] // 2, network.window, network.prefix
    audio_scale = diffusion.guidance if guidance is None else guidance
    statistics_scale = diffusion.statistics_guidance if statistics_guidance is None else statistics_guidance
    # As in training: beyond its ends the two features of the speech's outermost frames are repeated.
    short = max(window - total, 0)
    ends = (audio[:, :2].repeat(1, prefix, 1), audio[:, -2:].repeat(1, short + prefix, 1))
    audio = torch.cat([ends[0], audio, ends[1]], dim=1)
    # All motion so far, from the frame before the first; what is before that is not known.
    unknown = hint.new_full((1, max(prefix - 1, 0), hint.shape[-1]), torch.nan)
    motion = torch.cat([unknown, hint[:, None]], dim=1)
    ahead = motion.shape[1]
    for start in window_starts(total, window):
        # What goes before (1, P or 1, M), and the statistics of what is to come.
        motion = motion[:, : ahead + start]
        mean, std = statistics(start, motion[:, ahead - 1 :])
        before = motion[:, -max(prefix, 1) :]
        units = None
        if diffusion.by_construction:
            if mean is None or std is None:
                raise ValueError("windows in units of their statistics need both mean and std")
            units = WindowUnits.of(mean, std, diffusion.standardised)
            before = units.seen(before)
        # From noise to the motion of the window's 64 frames, by its speech and that about it.
        part = audio[:, 2 * start : 2 * (start + window + 2 * prefix)]
        denoiser = CFGDenoiser(network, part, before, mean, std, audio_scale, statistics_scale)
        noise = torch.randn((1, window, network.motion_dim), generator=generator).to(hint)
        goes_on = partial(going_on, before=before, units=units)
        corrected = goes_on if prefix > 1 or units is not None else None
        found = diffusion.sample(denoiser, temperature * noise, generator, steps, corrected)  # (1, 64, M)
        found = found if units is None else units.unseen(found)
        motion = torch.cat([motion, found], dim=1)
    return motion[:, ahead : ahead + total]
