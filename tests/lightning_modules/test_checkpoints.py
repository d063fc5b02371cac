"""Networks by their config: what a config from outside may build; weights appear whole or not at all."""

import pytest
import torch
from torch import nn

from datamodules.errors import UserError
from lightning_modules import checkpoints
from lightning_modules.checkpoints import build_network, read_weights, write_weights

LAYERS = "lightning_modules.networks.layers"


def test_a_network_is_built():
    network = build_network({"_target_": f"{LAYERS}.EqualLinear", "inputs": 3, "outputs": 2})
    assert network(torch.zeros(1, 3)).shape == (1, 2)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        f"{LAYERS}.torch.hub.load",  # walks out through what a module imported
        f"{LAYERS}.torch.nn.Linear",
        f"{LAYERS}.nn.Linear",
        f"{LAYERS}.Tensor",  # imported, not defined there
        f"{LAYERS}.warp",  # a function
        f"{LAYERS}.Nothing",
        f"{LAYERS}.EqualLinear.register_forward_hook",
        "lightning_modules.networks.discriminator.EqualLinear",
        "lightning_modules.networks.motion_basis.Mapping",
        "lightning_modules.networks.paper_renderer.SourceCode",  # a class, but no network
        "lightning_modules.networks_of_others.Network",
        "lightning_modules.networks..os.system",
        "lightning_modules.networks.",
        "lightning_modules.networks.nowhere.Network",
        "",
        None,
        7,
        {"_target_": "os.system"},
    ],
)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_anything_else_is_refused_at_any_depth(target, depth):
    config = {"_target_": target, "inputs": 3, "outputs": 2}
    if depth == 1:
        config = {"_target_": f"{LAYERS}.EqualLinear", "inputs": config, "outputs": 2}
    if depth == 2:
        config = {"_target_": f"{LAYERS}.EqualLinear", "_args_": [3, [{"a": config}]]}
    with pytest.raises(UserError, match=r"only lightning_modules\.networks may be built"):
        build_network(config)


def test_weights_appear_whole_or_not_at_all(tmp_path, monkeypatch):
    module, path = nn.Linear(3, 2), tmp_path / "new" / "model.safetensors"
    write_weights(path, module, half=False)

    def fail(state, partial):
        partial.write_bytes(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoints, "save_file", fail)
    with pytest.raises(OSError, match="no space"):
        write_weights(path, nn.Linear(3, 2), half=False)
    assert torch.equal(read_weights(path)["weight"], module.weight)
    assert list(path.parent.iterdir()) == [path]


def test_half_precision_loses_no_large_value(tmp_path):
    module = nn.Linear(3, 2)
    module.register_buffer("variance", torch.tensor([1e9, 1e-9]))
    module.register_buffer("table", torch.tensor([[1e6, 1.0]]))
    write_weights(tmp_path / "model.safetensors", module, half=True)
    read = read_weights(tmp_path / "model.safetensors")
    assert torch.equal(read["variance"], module.variance)
    assert torch.equal(read["table"], module.table)
    assert torch.equal(read["weight"], module.weight.detach().half().float())
    assert torch.equal(read["bias"], module.bias.detach())
