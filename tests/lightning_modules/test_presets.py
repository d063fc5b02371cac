"""Every preset of every stage is built and takes an optimisation step."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from datamodules.batches import WINDOW, FramePairBatch, MotionWindowBatch
from experiments.config import compose, instantiate
from lightning_modules.networks.motion_basis import MotionBasis

PRESETS = ["tiny", "small", pytest.param("base", marks=pytest.mark.slow), "paper"]
APPEARANCE = 512
MOTION = 20
AUDIO = {"tiny": 160, "small": 160, "base": 160, "paper": 768}
"""Width of the features: log-mel, or those of a speech model."""


def step(model: L.LightningModule, item: tuple, batch_size: int, networks: int = 1) -> None:
    """One optimisation step of each network of a stage, on a batch of equal items."""
    trainer = L.Trainer(
        max_steps=networks,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader([item] * batch_size, batch_size=batch_size))
    assert trainer.global_step == networks


def changed(module: torch.nn.Module, before: dict[str, torch.Tensor]) -> float:
    """Share of the parameters that differ from before."""
    now = dict(module.named_parameters())
    return sum(not torch.equal(now[name], value) for name, value in before.items()) / len(before)


def snapshot(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


@pytest.mark.parametrize("preset", PRESETS)
def test_the_autoencoder_takes_a_step(preset: str) -> None:
    config = compose([f"experiment=autoencoder_{preset}"])
    if "gan_start" in config.model:
        config.model.gan_start = 0
    if "perceptual" in config.model:
        config.model.perceptual.weights = "random"
    torch.manual_seed(0)
    model = instantiate(config.model)
    size = config.model.network.size
    frames = torch.rand(2, 3, size, size) * 2 - 1
    boxes = torch.tensor([[0.3, 0.6, 0.7, 0.9], [0.2, 0.3, 0.4, 0.5], [0.6, 0.3, 0.8, 0.5]])
    batch = FramePairBatch(frames[0], frames[1], boxes, torch.rand(2, 9, 2), torch.zeros(2, 8))
    networks = 1 if model.discriminator is None else 2
    parts = [model.network] + ([model.discriminator] if model.discriminator is not None else [])
    before = [snapshot(part) for part in parts]
    step(
        model,
        batch,
        2 if config.model.get("normalise_latent", False) or preset in ("tiny", "small") else 1,
        networks,
    )
    for part, values in zip(parts, before, strict=True):
        assert changed(part, values) > 0.1  # behind layers that start at zero nothing moves in the first step
        assert all(parameter.isfinite().all() for parameter in part.parameters())


def window(preset: str) -> MotionWindowBatch:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2 * WINDOW + 2, MOTION, generator=generator)
    return MotionWindowBatch(
        motion=noise[: WINDOW + 1],
        audio=torch.randn(2 * WINDOW, AUDIO[preset], generator=generator),
        source_motion=noise[0],
        appearance=torch.randn(APPEARANCE, generator=generator),
        previous=noise[WINDOW + 1 :],
        has_previous=torch.tensor(True),
        valid=torch.ones(WINDOW, dtype=torch.bool),
    )


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("stage", ["statistics", "diffusion"])
def test_statistics_and_diffusion_take_a_step(stage: str, preset: str) -> None:
    model = instantiate(compose([f"model=motion_{stage}_{preset}"]).model, basis=MotionBasis(MOTION))
    before = snapshot(model.network)
    step(model, window(preset), 2)
    assert changed(model.network, before) > 0  # the output layer: all before it starts behind zeros
    assert all(parameter.isfinite().all() for parameter in model.network.parameters())
