"""``ifmdm package --convert``: folders of before come back with the same weights; hostile ones do nothing."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from experiments.cli import main
from lightning_modules.checkpoints import load_network, read_network_record
from lightning_modules.generation.talking_head import TalkingHead
from lightning_modules.legacy_format import NAMES, spec_of_config
from lightning_modules.networks.registry import network_spec
from metrics.judges.syncnet import SyncNet, load_expert

CLASSES = {name: target for target, name in NAMES.items()}
TOKEN = "hf_secret_of_the_user"


def as_of_before(spec: dict[str, Any]) -> dict[str, Any]:
    """A spec as a config node of before: classes by their import path, scales as numbers."""
    node = {key: as_of_before(v) if isinstance(v, dict) and "name" in v else v for key, v in spec.items()}
    if "channels" in node:
        node["channels"] = {int(key): value for key, value in node["channels"].items()}
    return {"_target_": CLASSES[node.pop("name")], **node}


@pytest.fixture(scope="module")
def model(build_model) -> TalkingHead:
    return build_model()


def convert(old: Path, new: Path) -> int:
    return main(["package", "--convert", str(old), "--output", str(new)])


def test_a_model_folder_comes_back(model: TalkingHead, tmp_path: Path, refused) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    model.save_pretrained(old)
    config = json.loads((old / "config.json").read_text())
    (old / "config.json").unlink()
    config |= {"format": 2, "networks": {k: as_of_before(v) for k, v in config["networks"].items()}}
    config["audio"]["source"] = None
    (old / "config.yaml").write_text(yaml.safe_dump(config))
    assert convert(old, new) == 0
    written = {path.relative_to(new) for path in new.rglob("*.safetensors")}
    assert len(written) == 4
    assert all((new / name).read_bytes() == (old / name).read_bytes() for name in written)
    loaded = TalkingHead.from_pretrained(new)
    for one, other in ((loaded.denoiser, model.denoiser), (loaded.autoencoder, model.autoencoder)):
        assert network_spec(one) == network_spec(other)
    assert loaded.diffusion.settings() == model.diffusion.settings()
    assert convert(old, new) == 2  # there are files already
    assert "holds config.json, so it is in today's form already" in refused(
        ["package", "--convert", new, "--output", old]
    )
    shutil.copy(new / "statistics/model.safetensors", old / "diffusion/model.safetensors")
    assert convert(old, tmp_path / "newer") == 2
    assert not (tmp_path / "newer").exists()


def test_a_run_comes_back(model: TalkingHead, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "checkpoints").mkdir(parents=True)
    state = {f"network.{name}": value for name, value in model.denoiser.state_dict().items()}
    torch.save({"state_dict": state}, old / "checkpoints" / "last.ckpt")
    diffusion = {"_target_": "lightning_modules.diffusion.gaussian_diffusion.GaussianDiffusion"}
    config = {
        "stage": "diffusion",
        "model": {
            "network": as_of_before(network_spec(model.denoiser)),
            "diffusion": diffusion | {"target": "v"},
        },
        "audio": {
            "_target_": "lightning_modules.audio_frontend.AudioFrontend",
            "name": "mel",
            "source": None,
        },
        "motion_space": "0123",
    }
    (old / "config.yaml").write_text(yaml.safe_dump(config))
    with caplog.at_level("INFO"):
        assert convert(old, new) == 0
    assert "it can't be resumed" in caplog.messages[-1]
    network, spec, _ = load_network(new)
    assert spec == network_spec(model.denoiser)
    assert all(torch.equal(value, state[f"network.{name}"]) for name, value in network.state_dict().items())
    record = read_network_record(new)
    assert (record.stage, record.motion_space) == ("diffusion", "0123")
    assert record.diffusion is not None
    assert record.diffusion["target"] == "v"


def test_a_judge_comes_back(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    save_file(SyncNet(0.05, 64).state_dict(), old / "model.safetensors")
    (old / "config.yaml").write_text("width: 0.05\nsize: 64\nregion: [0.0, 0.0, 1.0, 1.0]\n")
    assert convert(old, new) == 0
    assert (new / "model.safetensors").read_bytes() == (old / "model.safetensors").read_bytes()
    assert load_expert(new).size == 64


def test_every_network_of_before_has_its_name() -> None:
    for target, name in NAMES.items():
        assert spec_of_config({"_target_": target, "size": 1}) == {"name": name, "size": 1}


MAKE = "{_target_: pathlib.Path.touch, self: {_target_: pathlib.Path, _args_: [OUTSIDE/made]}}"
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)
OLD = "format: 2\nnetworks:\n  autoencoder: {_target_: lightning_modules.networks.paper_renderer.PaperRenderer, size: 32}\n"
YAML = {
    "alias bomb": LAUGHS,
    "python": "networks: !!python/object/apply:pathlib.Path.touch [OUTSIDE/made]\n",
    "code": f"networks: {MAKE}\nformat: 2\n",
    "stage of code": f"format: 2\nnetworks: {{autoencoder: {MAKE}, statistics: {MAKE}, diffusion: {MAKE}}}\n",
    "interpolation": f"{OLD}audio: {{name: '${{oc.create:{MAKE}}}'}}\n",
    "escaped": f"{OLD}audio: {{name: '\\${{oc.create:{MAKE}}}'}}\n",
    "environment": OLD + "audio: {name: wav2vec2, source: '${oc.env:HF_TOKEN}'}\n",
    "depth": "networks: " + "[" * 5000,
    "size": "networks: " + "a" * 2**20,
    "run": "stage: autoencoder\nmodel: {network: {_target_: os.system, command: touch OUTSIDE/made}}\n",
    "run of dates": "stage: 2001-01-01\nmodel: {network: {_target_: metrics.syncnet.SyncNet, size: 2001-01-01}}\n",
    "judge": "region: [0, 0, 1, 1]\nwidth: .nan\nsize: 1000000000\n",
    "no number": "format: !!int ''\n",
    "no bool": "format: !!bool x\n",
    "no date": "format: !!timestamp x\n",
    "no set": "format: !!set [x]\n",
    "tag": "format: ! 2\n",
    "no text": "\0\1\2",
}


@pytest.mark.parametrize("text", YAML.values(), ids=list(YAML))
def test_a_hostile_folder_does_nothing(
    tmp_path: Path, text: str, refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "config.yaml").write_text("a secret")
    old = tmp_path / "old"
    old.mkdir()
    (old / "config.yaml").write_text(text.replace("OUTSIDE", str(outside)))
    command = ["package", "--convert", old, "--output", tmp_path / "new"]
    assert TOKEN not in refused(command)
    assert [path.name for path in outside.iterdir()] == ["config.yaml"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "outside"]
    (old / "config.yaml").unlink()
    (old / "config.yaml").symlink_to(outside / "config.yaml")
    refused(command, "leads out")
