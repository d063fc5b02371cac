"""Networks compiled by ``torch.compile`` in place: weights keep their names, checkpoints stay as they are."""

import torch
from torch import nn

from datamodules.errors import UserError
from lightning_modules.networks.base_renderer import Renderer
from lightning_modules.networks.diffusion_transformer import DiffusionTransformer


def compile_network(network: nn.Module, mode: bool | str, backend: str = "inductor") -> None:
    """Compile what a training step calls; the first steps take longer.

    Of a network that is used by methods of its own, such as encode and decode, that is each part by itself; else the whole.

    Args:
        network: changed in place.
        mode: True or a mode of ``torch.compile``, such as ``max-autotune``; False does nothing.
        backend: of ``torch.compile``.

    Raises:
        UserError: there is no such mode.
    """
    if not mode:
        return
    if mode is not True and mode not in (known := torch._inductor.list_mode_options()):
        raise UserError(f"compile={mode}: use true, false or one of {', '.join(known)}")
    parts = [network]
    if isinstance(network, Renderer | DiffusionTransformer):
        parts = []
        for child in network.children():  # a list or map of modules is called one by one
            parts += list(child.children()) if isinstance(child, nn.ModuleList | nn.ModuleDict) else [child]
    for part in parts:
        part.compile(mode=None if mode is True else mode, backend=backend)
