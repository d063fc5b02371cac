"""Lifting a trained motion autoencoder to twice the picture size, so that most of the training runs on small pictures."""

import math
from typing import Any

import torch

from lightning_modules.networks.base_renderer import Renderer
from lightning_modules.networks.layers import RGBHead


@torch.no_grad()
def grow(small: Renderer, large: Renderer) -> None:
    """Start ``large`` from ``small``: it renders what ``small`` does, upsampled, until its outer layers have learned more.

    All inner layers are copied. The new outermost encoder block halves the picture and applies the old stem: leaky ReLUs
    are passed by carrying each colour as a pair of opposite signs. The new outermost decoder scale adds neither flow nor
    colour. A mouth painter keeps its place but learns to paint anew: its convolutions count in pixels.

    Args:
        small: trained, of side S.
        large: untrained, of side 2 S, with the channels of ``small`` at all its scales and at least 6 at 2 S.

    Raises:
        ValueError: the two don't fit.
    """
    if "outer" not in large.parts():
        raise ValueError("this renderer has no part 'outer' that could be learned alone at the new size")
    if large.size != 2 * small.size:
        raise ValueError(f"a {small.size} px model lifts to {2 * small.size} px, not {large.size}")
    state = {}
    for name, value in small.state_dict().items():
        if name.startswith("encoder.blocks."):
            index, rest = name.removeprefix("encoder.blocks.").split(".", 1)
            name = f"encoder.blocks.{int(index) + 1}.{rest}"
        learned_anew = name.startswith(("encoder.stem", "mouth_painter", "refine"))
        if not learned_anew or name.startswith("mouth_painter.place"):
            state[name] = value
    own = large.state_dict()
    if wrong := [name for name, value in state.items() if name not in own or own[name].shape != value.shape]:
        raise ValueError(f"the models differ inside: {wrong[0]} and {len(wrong) - 1} more")
    large.load_state_dict(own | state)
    _pass_colours(small, large)
    finest: Any = large.scales[-1]  # type: ignore[index]
    # Its own layer starts as nothing, what modulates it does not: else neither would ever get a gradient.
    colours: Any = finest.to_rgb.conv if isinstance(finest.to_rgb, RGBHead) else finest.to_rgb
    for parameter in (colours.weight, colours.bias, finest.to_flow.weight, finest.to_flow.bias):
        parameter.zero_()


def _pass_colours(small: Any, large: Any) -> None:
    """Make stem and first block of ``large`` the stem of ``small`` behind a blur-pool."""
    stem, old = large.encoder.stem, small.encoder.stem
    block = large.encoder.blocks[0]
    if stem.weight.shape[0] < 6:
        raise ValueError("lifting needs 6 channels or more at the new size: three colours in both signs")
    for layer in (stem, block.conv1, block.conv2):
        layer.weight.mul_(0.1)  # what is left of the random start can learn, but says little at first
        layer.bias.zero_()
    # The way around the new block stays shut; its six first channels carry three colours in both signs.
    block.skip.weight.zero_()
    gain = 1.2 * math.sqrt(2.0)  # activate(x) - activate(-x) = gain * x
    stem.weight[:6] = 0
    block.conv1.weight[:6] = 0
    block.conv1.weight[:6, :6] = 0
    block.conv2.weight[:, :6] = 0
    for colour in range(3):
        for sign, channel in ((1.0, colour), (-1.0, colour + 3)):
            # New stem: the colour, signed. First convolution: the same again behind its activation.
            stem.weight[channel, colour, 0, 0] = sign / stem.scale
            block.conv1.weight[channel, colour, 1, 1] = sign / gain / block.conv1.scale
            block.conv1.weight[channel, colour + 3, 1, 1] = -sign / gain / block.conv1.scale
            # Second convolution, behind the blur-pool: the old stem.
            taps = math.sqrt(2.0) * sign / gain / block.conv2.scale * old.weight[:, colour, 0, 0] * old.scale
            block.conv2.weight[:, channel, 1, 1] = taps
    block.conv2.bias.copy_(math.sqrt(2.0) * old.bias)
