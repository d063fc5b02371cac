"""The shipped model: small enough for the repository, whole, and steerable."""

import numpy as np
import pytest
import torch

from datamodules.synthetic_faces.controls import Controls
from datamodules.synthetic_faces.identity import Identity
from datamodules.synthetic_faces.renderer import HeadRenderer
from lightning_modules.talking_head import GenerationOptions, TalkingHead, resolve_model


@pytest.fixture(scope="module")
def model() -> TalkingHead:
    return TalkingHead.from_pretrained()


@pytest.fixture(scope="module")
def portrait() -> torch.Tensor:
    head = (
        HeadRenderer(Identity.sample(np.random.default_rng(123), "wide"), 128)
        .render(Controls.neutral(1))
        .frames
    )
    return torch.from_numpy(head[0]).permute(2, 0, 1).float() / 127.5 - 1


def test_the_folder_is_small_and_has_a_card():
    folder = resolve_model("synthetic-128")
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 25e6
    assert "synthetic" in (folder / "README.md").read_text()


def test_its_basis_has_blocks_and_its_frames_show_the_portrait(model, portrait):
    assert set(model.basis.blocks) == {"head", "mouth", "eyes", "rest"}
    assert model.size >= 128
    source = model.prepare_source(portrait)
    frame = next(model.render(source, source.motion))
    error = (torch.from_numpy(frame).permute(2, 0, 1).float() / 127.5 - 1 - portrait).square().mean() / 4
    assert -10 * torch.log10(error) > 25  # its own motion gives the portrait back, in dB


def test_more_intensity_gives_more_head_motion_and_leaves_lips_and_lids_alone(model, portrait):
    source = model.prepare_source(portrait)
    speech = 0.1 * np.random.default_rng(0).standard_normal(640 * 96).astype(np.float32)
    blocks = model.basis.blocks
    takes = {
        value: model.basis.encode(model.generate_motion(source, speech, GenerationOptions(intensity=value)))
        for value in (0.0, 0.5, 1.0, 2.0)
    }
    spread = [float(motion[:, blocks["head"]].std(0).mean()) for motion in takes.values()]
    assert spread == sorted(spread)
    assert spread[-1] > 1.5 * spread[0]
    for name in ("mouth", "eyes"):
        plain = takes[1.0][:, blocks[name]]
        for value, motion in takes.items():
            difference = (motion[:, blocks[name]] - plain).square().mean().sqrt()
            assert difference < 0.05 * plain.std(), (name, value)
