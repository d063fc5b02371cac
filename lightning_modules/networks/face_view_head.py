"""A motion encoder of its own for framed faces: whole face, mouth and eyes, each seen by a small convolutional tower.

The paper takes motion from the shared encoder. On small data and without a GPU that finds pose and lips only after tens of
thousands of pictures; this one needs some thousands, because framing puts mouth and eyes at about the same place in every
clip, normalisation keeps the gradients even, and its convolutions are strided from the start (ours).
"""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

VIEWS = (
    ((0.0, 0.0, 1.0, 1.0), (64, 64)),
    ((0.22, 0.5, 0.78, 0.98), (48, 56)),
    ((0.18, 0.25, 0.82, 0.61), (36, 64)),
)
"""Face, mouth, eyes: box x0, y0, x1, y1 of the framed picture, and the height and width that it is resized to."""
KNOWN_SIZES = ((96, 112), (64, 112))
"""Height and width of mouth and eyes for a network that knows pictures: multiples of 16."""
KNOWN_CHANNELS = 112
NARROW = 48
"""Channels of its features that a tower goes on with."""
NORMS = ("batch", "group")
GROUP = 8
"""Channels that a group norm takes together; all of those where they can't be parted so."""


class FaceViewHead(nn.Module):
    """Motion coefficients of framed faces.

    Args:
        motion_dim: M, their number.
        width: channels in the first layer of each tower.
        hidden: outputs of each tower.
        norm: ``group``: every picture by itself; ``batch``: over those that one process has in a batch (of old models).
        factors: how many coefficients are read off each view alone, in the order of ``VIEWS``; empty: all off all of them.
        known_features: whether mouth and eyes are read off features of EfficientNet-Lite0, frozen, which has seen a million
            photographs: a tower that has seen drawn heads alone reads lips and lids of people less well.

    Raises:
        ValueError: there is no such norm, or the factors don't add up.
        UserError: EfficientNet-Lite0 is not installed.
    """

    def __init__(
        self,
        motion_dim: int,
        width: int = 24,
        hidden: int = 96,
        norm: str = "batch",
        factors: Sequence[int] = (),
        known_features: bool = False,
    ) -> None:
        super().__init__()
        if factors and (len(factors) != len(VIEWS) or sum(factors) != motion_dim):
            raise ValueError(f"factors are {len(VIEWS)} numbers that add up to {motion_dim}, got {factors}")
        if norm not in NORMS:
            raise ValueError(f"norm is one of {', '.join(NORMS)}, got {norm!r}")
        self.norm = norm
        self.sizes = [size for _, size in VIEWS]
        self.features: Any = None
        if known_features:
            from metrics.judges.efficientnet import load_efficientnet

            self.features, self.sizes[1:] = load_efficientnet(), KNOWN_SIZES
        self.towers = nn.ModuleList(
            _known_tower(size, hidden) if number and known_features else self._tower(size, width, hidden)
            for number, size in enumerate(self.sizes)
        )
        self.factors = tuple(factors)
        if factors:
            self.heads = nn.ModuleList(_head(hidden, outputs) for outputs in factors)
        else:
            self.head = _head(len(VIEWS) * hidden, motion_dim, 2 * hidden)

    def _tower(self, size: tuple[int, int], width: int, hidden: int) -> nn.Sequential:
        """Pixels folded 2 x 2 into channels, three strided convolutions, one linear layer over all places."""
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        for before, after in itertools.pairwise((12, width, 2 * width, 4 * width)):
            layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), self._norm(after), nn.SiLU()]
        cells = -(-size[0] // 16) * -(-size[1] // 16)
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * width * cells, hidden), nn.SiLU())

    def _norm(self, channels: int) -> nn.Module:
        if self.norm == "batch":
            return nn.BatchNorm2d(channels)
        return nn.GroupNorm(1 if channels % GROUP else channels // GROUP, channels)

    def forward(self, image: Tensor) -> Tensor:
        """Map pictures ``(B, 3, S, S)`` in [-1, 1] to unbounded coefficients ``(B, M)``."""
        side = image.shape[-1]
        seen = []
        # Each view at its own size through its own tower: (B, hidden).
        for number, tower in enumerate(self.towers):
            x0, y0, x1, y1 = VIEWS[number][0]
            cut = image[..., round(y0 * side) : round(y1 * side), round(x0 * side) : round(x1 * side)]
            view = F.interpolate(
                cut, self.sizes[number], mode="bilinear", antialias=True, align_corners=False
            )
            if number and self.features is not None:
                view = self.features.maps(view)[-1]  # (B, 112, h / 16, w / 16)
            seen.append(tower(view))
        if self.factors:
            return torch.cat([head(one) for head, one in zip(self.heads, seen, strict=True)], dim=1)
        return self.head(torch.cat(seen, dim=1))


def _known_tower(size: tuple[int, int], hidden: int) -> nn.Sequential:
    """A linear layer over all places of features that are there."""
    cells = size[0] // 16 * (size[1] // 16)
    narrowed = [nn.Conv2d(KNOWN_CHANNELS, NARROW, 1), nn.GroupNorm(NARROW // GROUP, NARROW), nn.SiLU()]
    return nn.Sequential(*narrowed, nn.Flatten(), nn.Linear(NARROW * cells, hidden), nn.SiLU())


def _head(inputs: int, outputs: int, hidden: int = 96) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs, bias=False))
