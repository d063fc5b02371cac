"""Compiled in place: the same numbers, names and checkpoints."""

import copy

import pytest
import torch

from datamodules.errors import UserError
from lightning_modules.compilation import compile_network
from lightning_modules.networks.registry import build_network

CHANNELS = {"4": 8, "8": 8, "16": 8, "32": 8}
RENDERER = {
    "name": "paper_renderer",
    "size": 32,
    "channels": CHANNELS,
    "latent_dim": 32,
    "face_views": 8,
    "norm": "group",
}
ENCODER = {"name": "mel_encoder", "width": 8, "out_dim": 8}
TRANSFORMER = {"name": "diffusion_transformer", "width": 16, "depth": 1, "heads": 2, "audio_encoder": ENCODER}
CONDITIONS = [(2, 20)] * 3
PROJECTION = {"name": "feature_projection", "in_dim": 3, "out_dim": 2}


@pytest.mark.parametrize(
    ("spec", "shapes"),
    [
        (RENDERER, [(2, 3, 32, 32), (2, 3, 32, 32)]),
        (TRANSFORMER, [(2, 64, 20), (2,), (2, 128, 160), *CONDITIONS]),
        (PROJECTION, [(2, 4, 3)]),
    ],
)
def test_weights_keep_their_names_and_values(spec, shapes) -> None:
    network = build_network(**spec)
    inputs = [torch.rand(shape) for shape in shapes]
    plain, names = network(*inputs), list(network.state_dict())
    compiled = copy.deepcopy(network)
    calls: list[int] = []

    def backend(graph, _):
        calls.append(1)
        return graph.forward

    compile_network(compiled, True, backend=backend)
    again = compiled(*inputs)
    assert calls
    for one, two in zip(plain, again, strict=True):
        if one is not None:
            torch.testing.assert_close(two, one)
    assert list(compiled.state_dict()) == list(copy.deepcopy(compiled).state_dict()) == names


def test_no_other_mode_is_known() -> None:
    with pytest.raises(
        UserError, match=r"compile=fast: use true, false or one of default, .*reduce-overhead"
    ):
        compile_network(build_network(**PROJECTION), "fast")
