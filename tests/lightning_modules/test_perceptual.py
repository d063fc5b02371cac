"""The perceptual loss: a fixed judge outside checkpoints and copies, and no silent download."""

import copy
import logging

import pytest
import torch
from torchvision.models import VGG19_Weights

from datamodules.errors import UserError
from lightning_modules.losses.perceptual import PerceptualLoss


@pytest.fixture(scope="module")
def loss() -> PerceptualLoss:
    return PerceptualLoss("random")


def test_the_judge_is_neither_saved_nor_trained_nor_copied(loss):
    module = torch.nn.ModuleDict({"perceptual": loss})
    assert not module.state_dict()
    assert not list(module.parameters())
    assert copy.deepcopy(module)["perceptual"]._shared is loss._shared


def test_the_judge_follows_the_loss_to_another_type_and_back(loss):
    prediction, target = torch.rand(2, 1, 3, 32, 32).mul(2).sub(1)
    prediction.requires_grad_(True)
    single = loss(prediction, target)
    single.backward()
    assert prediction.grad.abs().sum() > 0
    assert loss(target, target) == 0
    module = torch.nn.ModuleDict({"perceptual": loss})
    module.double()
    double = loss(prediction.double(), target.double())
    assert double.dtype == torch.float64
    assert double.item() == pytest.approx(single.item(), rel=1e-4)
    copy.deepcopy(module).to("meta")  # what becomes of a copy is nothing to the original
    module.float()
    assert loss(prediction, target).item() == pytest.approx(single.item(), rel=1e-6)


def test_nothing_big_is_downloaded_without_a_word(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    asked = []

    def download(*args, **options):
        asked.append(caplog.messages[:])
        raise OSError("no network")

    monkeypatch.setattr(VGG19_Weights, "get_state_dict", download)
    with caplog.at_level(logging.INFO), pytest.raises(UserError, match=r"vgg19-dcbb9e9d\.pth is not there"):
        PerceptualLoss()
    assert not asked
    with caplog.at_level(logging.INFO), pytest.raises(UserError, match="no network"):
        PerceptualLoss("torchvision")
    assert len(asked) == 1
    assert "downloading 575 MB" in asked[0][0]
