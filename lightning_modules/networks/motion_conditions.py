"""What a motion window is generated from: which conditions are kept, and what they are embedded to."""

from typing import NamedTuple

import torch
from torch import Tensor

CONDITION_TOKENS = ("hint", "mean", "std")
"""Conditions that can have a token of their own, in the order of the tokens."""


class KeepMask(NamedTuple):
    """Which conditions each sample keeps; False drops one, where the network has it. All ``(B,)`` bool.

    Attributes:
        hint: The hint: its token, or the frames of the prefix.
        mean: The token of the window's mean.
        std: The token of the window's standard deviation.
        modulation_audio: The audio that drives the modulation, or that frames attend to.
        joined_audio: The audio of the joined audio-motion branch.
        joined_motion: The noisy motion of that branch (the token itself always holds the noisy motion).
    """

    hint: Tensor
    mean: Tensor
    std: Tensor
    modulation_audio: Tensor
    joined_audio: Tensor
    joined_motion: Tensor

    @classmethod
    def all(cls, batch: int, device: torch.device | str = "cpu") -> "KeepMask":
        """Keeps every condition of every sample."""
        return cls(*torch.ones(len(cls._fields), batch, dtype=torch.bool, device=device).unbind(0))

    def without_audio(self) -> "KeepMask":
        """The same with the audio of both branches dropped: the dropped side of audio guidance."""
        nothing = torch.zeros_like(self.hint)
        return self._replace(modulation_audio=nothing, joined_audio=nothing)

    def without_statistics(self) -> "KeepMask":
        """The same with mean and std dropped: the dropped side of statistics guidance."""
        nothing = torch.zeros_like(self.hint)
        return self._replace(mean=nothing, std=nothing)


class Conditions(NamedTuple):
    """Embedded conditions: computed once a window, used at every sampler step.

    The frames are the P of the prefix, then the T of the window.

    Attributes:
        tokens: ``(B, K, W)``, one for each condition token of the network.
        prefix: ``(B, P, W)`` tokens of the frames before the window; None without a prefix.
        modulation: Audio part of the frames' modulation, ``(B, P + T, W)``; of the mean ``(B, 1, W)``; None: attended to.
        attended: ``(B, 2 (P + T), W)`` audio tokens that frames attend to; None without cross-attention.
        joined: ``(B, T, 2 E)`` two audio embeddings of each frame of the window; None without the joined branch.
        joined_motion: ``(B,)`` bool, whether the joined branch sees the noisy motion.
        heard: ``(B, T, 2 E)`` two audio embeddings of each frame of the window, dropped or not: for losses alone.
    """

    tokens: Tensor
    prefix: Tensor | None
    modulation: Tensor | None
    attended: Tensor | None
    joined: Tensor | None
    joined_motion: Tensor
    heard: Tensor
