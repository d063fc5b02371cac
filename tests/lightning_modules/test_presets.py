"""Every size of every stage takes an optimisation step."""

import pytest
import torch
from torch import nn

from datamodules.batches import WINDOW, FramePairBatch
from experiments.config import compose, instantiate
from lightning_modules.checkpoints import motion_space_of
from lightning_modules.networks.motion_basis import MotionBasis

AUTOENCODERS = [
    "tiny",
    "small",
    pytest.param("base", marks=pytest.mark.slow),
    "paper",
    "warp",
    "warp_flow",
    "warp_sharp",
]
SIZES = ["tiny", "small", pytest.param("base", marks=pytest.mark.slow), "paper"]
MOTION = 20
AUDIO = {"tiny": 160, "small": 160, "base": 160, "paper": 768}
"""Width of the features: log-mel, or those of a speech model."""


def build(experiment: str, *more: str, **stage: nn.Module):
    torch.manual_seed(0)
    audio = ["audio.source=folder"] if experiment.endswith("_paper") else []
    return instantiate(compose([f"experiment={experiment}", *audio, *more]).model, **stage)


@pytest.mark.parametrize("size", AUTOENCODERS)
def test_the_autoencoder_takes_a_step(size: str, trainer, loader, moved) -> None:
    gan, goes_on = size in ("base", "paper", "warp_sharp"), size in ("warp_flow", "warp_sharp")
    judged = size in ("base", "paper")
    more = ["init=run"] if goes_on else []
    more += ["model.gan.start=0"] if gan else []
    judge = ["model.losses.perceptual.features.pretrained=random", "model.losses.perceptual.levels=1"]
    model = build(f"autoencoder_{size}", *more, *(judge if judged else []))
    frames = torch.rand(2, 2, 3, model.network.size, model.network.size)[:, : 1 if gan else 2] * 2 - 1
    boxes = torch.tensor([[0.3, 0.6, 0.7, 0.9], [0.2, 0.3, 0.4, 0.5], [0.6, 0.3, 0.8, 0.5]])
    count = frames.shape[1]
    known = (
        torch.rand(count, 2, 9, 2),
        torch.zeros(count, 2, 8),
        torch.ones(count, 2, 9),
        torch.rand(count, 2, 64, 64),
    )
    batch = FramePairBatch(frames[0], frames[1], frames[1], boxes.expand(count, -1, -1), *known)
    trained = nn.ModuleList(model.network.parts()[model.hparams["trainable"]]) if goes_on else model.network
    parts = [trained, model.gan.discriminator] if gan else [trained]
    learned, anywhere = [moved(part) for part in parts], moved(model.network)
    space = motion_space_of(model.network)
    run = trainer(max_steps=1)
    run.fit(model, loader(batch, count))
    assert run.global_step == 1
    assert (motion_space_of(model.network) == space) is goes_on
    for part, names in zip(parts, learned, strict=True):
        # Behind layers that start at zero nothing moves in the first step.
        assert len(names()) > 0.05 * len(list(part.parameters()))
    its = {id(parameter) for parameter in trained.parameters()}
    assert {id(model.network.get_parameter(name)) for name in anywhere()} <= its


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stage", ["statistics", "diffusion"])
def test_statistics_and_diffusion_take_a_step(
    stage: str, size: str, trainer, loader, moved, motion_windows
) -> None:
    model = build(f"{stage}_{size}", basis=MotionBasis(MOTION))
    generator = torch.Generator().manual_seed(0)
    motion = torch.randn(2, WINDOW + 1, MOTION, generator=generator)
    batch = motion_windows(motion, torch.randn(2, 2 * WINDOW, AUDIO[size], generator=generator))
    learned = moved(model.network)
    trainer(max_steps=1).fit(model, loader(batch, 2))
    assert learned()  # all before the output layer starts behind zeros
    if (stage, size) == ("diffusion", "paper"):  # as published
        assert sum(value.numel() for value in model.network.parameters()) == pytest.approx(32e6, rel=0.03)
