"""Networks by name: plain values in, the same network out; what is wrong is told in one line before anything is allocated."""

import inspect
import time
from importlib import import_module
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from datamodules.errors import UserError
from lightning_modules.networks.paper_renderer import PaperRenderer
from lightning_modules.networks.registry import NETWORKS, build_network, network_spec, whole_spec

CHANNELS = {4: 8, 8: 8, 16: 8}
ENCODER = {"name": "mel_encoder", "width": 8, "out_dim": 8}
SMALL: dict[str, dict[str, Any]] = {
    "paper_renderer": {"size": 16, "channels": CHANNELS, "latent_dim": 32},
    "warp_renderer": {
        "size": 64,
        "width": 8,
        "blocks": 1,
        "face_views": 8,
        "painters": 8,
        "factors": [8, 8, 4],
    },
    "diffusion_transformer": {"audio_encoder": ENCODER, "width": 16, "heads": 2, "depth": 1, "mlp_ratio": 2},
    "statistics_estimator": {"audio_encoder": ENCODER, "width": 8},
    "mel_encoder": {"width": 8},
    "feature_projection": {"in_dim": 8, "out_dim": 8},
    "discriminator": {"size": 16, "channels": CHANNELS},
    "patch_discriminator": {"width": 8},
    "syncnet": {"width": 0.05, "size": 64, "region": [0, 0.5, 1, 1]},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_built_as_its_class_builds_it_and_again_from_its_spec(name: str) -> None:
    torch.manual_seed(3)
    network = build_network(name, **SMALL[name])
    again = build_network(**network_spec(network))
    assert network_spec(again) == network_spec(network) == {"name": name, **SMALL[name]}
    shapes = [{k: v.shape for k, v in n.state_dict().items()} for n in (network, again)]
    assert shapes[0] == shapes[1]
    module, _, class_name = NETWORKS[name].partition(":")
    assert type(network) is getattr(import_module(module), class_name)
    assert inspect.signature(type(network)).parameters.keys() >= SMALL[name].keys()


@pytest.mark.parametrize("name", NETWORKS)
def test_an_older_spec_means_the_defaults_of_what_it_does_not_say(name: str) -> None:
    whole = whole_spec({"name": name, **SMALL[name]})
    assert {key: whole[key] for key in SMALL[name] if key != "audio_encoder"} == {
        key: value for key, value in SMALL[name].items() if key != "audio_encoder"
    }
    if name == "paper_renderer":
        assert (whole["published"], whole["bounded_flow"]) == (False, True)
    if "audio_encoder" in whole:
        assert whole["audio_encoder"].keys() > SMALL[name]["audio_encoder"].keys()


def test_no_random_number_is_lost() -> None:
    torch.manual_seed(0)
    named = build_network("paper_renderer", **SMALL["paper_renderer"])
    torch.manual_seed(0)
    direct = PaperRenderer(**SMALL["paper_renderer"])
    for name, value in direct.state_dict().items():
        assert torch.equal(named.state_dict()[name], value)


def test_hydra_builds_it_and_numbers_may_be_text_in_the_keys_of_maps() -> None:
    builder = "lightning_modules.networks.registry.build_network"
    node = {"_target_": builder, "name": "paper_renderer", "size": "${size}"}
    node["channels"] = {str(key): value for key, value in CHANNELS.items()}
    config = OmegaConf.create({"size": 16, "network": node})
    network = instantiate(config.network)
    assert isinstance(network, PaperRenderer)
    spec = network_spec(network)
    assert type(spec["channels"]) is dict
    assert spec["size"] == 16


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("os.system", {}, "no network is named 'os.system'"),
        ("paper_renderer", {"width": 8}, "no argument 'width'"),
        ("paper_renderer", {"self": 8}, "no argument 'self'"),
        ("paper_renderer", {"size": 24}, "power of two"),
        ("paper_renderer", {"size": True}, "not of type int"),
        ("paper_renderer", {"size": 16.0}, "not of type int"),
        ("paper_renderer", {"size": None}, "not of type int"),
        ("paper_renderer", {"size": -16}, "from 0 to 2048"),
        ("paper_renderer", {"size": 10**9}, "from 0 to 2048"),
        ("paper_renderer", {"channels": {4: 8}}, "lack the scales"),
        ("paper_renderer", {"channels": {str(k): 8 for k in range(5000)}}, "5000 entries"),
        ("mel_encoder", {"out_dim": 0}, "size 0"),
        ("paper_renderer", {"channels": {4: 8, 8: 8, "x": 8}}, "not of type int"),
        (
            "paper_renderer",
            {"size": 2048, "channels": {2**k: 8192 for k in range(2, 12)}},
            "weights; at most",
        ),
        ("paper_renderer", {"rgb_input": "x" * 1000}, "too long"),
        ("diffusion_transformer", {"depth": 10**6}, "depth is 1000000"),
        ("diffusion_transformer", {"heads": 0}, "can't be built so"),
        ("diffusion_transformer", {"mlp_ratio": float("nan")}, "mlp_ratio is nan"),
        ("diffusion_transformer", {"audio_encoder": "mel_encoder"}, "not of type Module"),
        ("diffusion_transformer", {"audio_encoder": {"name": "syncnet"}}, "can't be built so"),
        ("diffusion_transformer", {"audio_encoder": ENCODER | {"depth": 3}}, "no argument 'depth'"),
        ("syncnet", {"region": [0, 0, 1, "1"]}, "not of type float"),
        ("syncnet", {"size": 32}, "51 pixels"),
    ],
)
def test_wrong_arguments_are_one_line_at_once(name: str, change: dict[str, Any], told: str) -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match=told) as caught:
        build_network(name, **(SMALL.get(name, {}) | change))
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 5


def test_required_arguments_are_named_and_only_named_networks_have_a_spec() -> None:
    with pytest.raises(UserError, match="lacks size, channels"):
        build_network("paper_renderer")
    with pytest.raises(UserError, match="registered name"):
        network_spec(nn.Linear(1, 1))
