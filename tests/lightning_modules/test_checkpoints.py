"""Weights appear whole or not at all, with their values; a run is found by its folder or checkpoint."""

from pathlib import Path

import pytest
import torch
from torch import nn

from datamodules.errors import UserError
from lightning_modules.checkpoints import (
    find_checkpoint,
    load_network,
    network_record,
    read_network_record,
    write_network_record,
)
from lightning_modules.networks.registry import build_network
from lightning_modules.weights import load_weights, write_weights

FEATURES = {"name": "feature_projection", "in_dim": 3, "out_dim": 2}


class Unwritable(nn.Linear):
    """Its state can't be written: two names share memory."""

    def state_dict(self, *args, **kwargs):
        state = super().state_dict(*args, **kwargs)
        return {**state, "again": state["weight"]}


def test_weights_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    module, name = nn.Linear(3, 2), "new/model.safetensors"
    write_weights(tmp_path / name, module, half=False)
    with pytest.raises(RuntimeError, match="share memory"):
        write_weights(tmp_path / name, Unwritable(3, 2), half=False)
    again = nn.Linear(3, 2)
    load_weights(again, tmp_path, name)
    assert torch.equal(again.weight, module.weight)
    assert list((tmp_path / "new").iterdir()) == [tmp_path / name]
    assert (tmp_path / name).stat().st_mode & 0o444 == 0o444


def test_half_precision_loses_no_large_value(tmp_path: Path) -> None:
    module, read = nn.Linear(3, 2), nn.Linear(3, 2)
    for linear, scale in ((module, 1.0), (read, 0.0)):
        linear.register_buffer("variance", scale * torch.tensor([1e9, 1e-9]))
        linear.register_buffer("table", scale * torch.tensor([[1e6, 1.0]]))
    write_weights(tmp_path / "model.safetensors", module, half=True)
    load_weights(read, tmp_path, "model.safetensors")
    assert torch.equal(read.variance, module.variance)
    assert torch.equal(read.table, module.table)
    assert torch.equal(read.weight, module.weight.detach().half().float())
    assert torch.equal(read.bias, module.bias.detach())


def test_a_run_comes_back(tmp_path: Path) -> None:
    written = build_network(**FEATURES)
    (tmp_path / "checkpoints").mkdir()
    state = {f"network.{name}": value for name, value in written.state_dict().items()}
    state["other"] = torch.ones(1)
    torch.save({"state_dict": state}, tmp_path / "checkpoints" / "last.ckpt")
    audio = {"name": "mel", "source": None, "x": 1}
    write_network_record(tmp_path, network_record("statistics", written, None, audio, "space"))
    for path in (tmp_path, find_checkpoint(tmp_path)):
        loaded, spec, read = load_network(path)
        assert spec == FEATURES
        assert torch.equal(loaded.projection.weight, written.projection.weight)
        assert read.keys() == state.keys()
        record = read_network_record(path)
        assert (record.stage, record.motion_space) == ("statistics", "space")
        assert (record.audio, record.diffusion) == ({"name": "mel", "source": None}, None)


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint"):
        find_checkpoint(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    torch.save({"state_dict": {}}, tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(UserError, match=r"no network\.json"):
        load_network(tmp_path)
    write_network_record(tmp_path, network_record("statistics", build_network(**FEATURES)))
    with pytest.raises(UserError, match="don't fit the network"):
        load_network(tmp_path)
