"""Folders of strangers can be wrong, but can not act: nothing runs, nothing outside is read, nothing leaves, one line each.

An audit hook of Python watches connections, processes and opened files, so that nothing has to be replaced for it.
"""

import copy
import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.errors import UserError
from experiments.cli import main
from experiments.package import pack_model
from lightning_modules.checkpoints import load_autoencoder, load_network, weights_hash, write_network_record
from lightning_modules.generation.talking_head import TalkingHead
from metrics.judges.syncnet import load_expert

TOKEN = "hf_secret_of_the_user"
WATCHED: list[tuple[str, str]] = []
WATCHING = [False]
ACTS = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if WATCHING[0] and (event in ACTS or event == "open"):
        WATCHED.append((event, str(arguments[0])))


sys.addaudithook(_watch)


class Touch:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's beside the stranger's: what is read or made in it is noticed; a token in the environment."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    folder = tmp_path / "outside"
    folder.mkdir()
    for name in ("config.json", "config.yaml", "network.json", "model.safetensors", "last.ckpt"):
        (folder / name).write_text("a secret")
    return folder


def refused(action: Callable[[], Any], outside: Path) -> str:
    """The one line that an action on a hostile folder ends with; nothing may have happened."""
    before = sorted(outside.iterdir())
    WATCHED.clear()
    WATCHING[0] = True
    try:
        with pytest.raises(UserError) as caught:
            action()
    finally:
        WATCHING[0] = False
    assert sorted(outside.iterdir()) == before
    assert [seen for seen in WATCHED if seen[0] in ACTS or seen[1].startswith(str(outside))] == []
    assert len(str(caught.value)) < 600
    assert TOKEN not in str(caught.value)
    return str(caught.value)


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {"name": "mel_encoder"}
    for _ in range(depth):
        value = {"name": "diffusion_transformer", "audio_encoder": value}
    return value


MAKE = "{_target_: pathlib.Path.touch, self: {_target_: pathlib.Path, _args_: [OUTSIDE/made]}}"
CODE = {"_target_": "subprocess.run", "args": ["touch", "OUTSIDE/made"]}
VALUES: dict[str, Any] = {
    "escaped interpolation": "\\${oc.create:" + MAKE + "}",
    "interpolation": "${oc.create:" + MAKE + "}",
    "environment": "${oc.env:HF_TOKEN}",
    "code": CODE,
    "code in a list": [CODE],
    "text": "12",
    "null": None,
    "bool": True,
    "negative": -8,
    "fraction": 8.5,
    "huge": 10**9,
    "zero": 0,
    "network of another kind": {"name": "syncnet"},
    "networks in networks": nested(9),
    "unknown network": {"name": "os.system"},
    "long": "x" * 10_000,
    "many": {str(key): 8 for key in range(5000)},
}
PLACES = {
    "renderer's size": ("networks", "autoencoder", "size"),
    "renderer's channels": ("networks", "autoencoder", "channels"),
    "one of the channels": ("networks", "autoencoder", "channels", "8"),
    "audio encoder": ("networks", "diffusion", "audio_encoder"),
    "depth": ("networks", "diffusion", "depth"),
    "choice": ("networks", "diffusion", "null_condition"),
    "width of the encoder": ("networks", "statistics", "audio_encoder", "width"),
    "steps of the sampler": ("diffusion", "sampler_steps"),
    "schedule": ("diffusion", "schedule"),
    "front end": ("audio", "name"),
    "stage": ("networks", "statistics"),
    "networks": ("networks",),
    "format": ("format",),
}


def placed(config: dict[str, Any], place: tuple[str, ...], value: Any, outside: Path) -> dict[str, Any]:
    """A copy of the config with a value at a place."""
    text = json.dumps(value).replace("OUTSIDE", str(outside))
    changed = copy.deepcopy(config)
    node = changed
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = json.loads(text)
    return changed


@pytest.fixture(scope="module")
def model(build_model) -> TalkingHead:
    return build_model()


@pytest.fixture
def folder(model: TalkingHead, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("place", PLACES)
def test_no_value_of_a_model_config_acts(folder: Path, outside: Path, place: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    for value in VALUES:
        text = json.dumps(placed(config, PLACES[place], VALUES[value], outside))
        (folder / "config.json").write_text(text)
        refused(lambda: TalkingHead.from_pretrained(folder), outside)
    for key in ("_target_", "_args_", "_partial_", "auto_map", "__class__"):
        if isinstance(_get(config, PLACES[place][:-1]), dict):
            text = json.dumps(placed(config, (*PLACES[place][:-1], key), "os.system", outside))
            (folder / "config.json").write_text(text)
            if PLACES[place][:-1]:  # unknown keys beside the known ones of the whole are not read
                refused(lambda: TalkingHead.from_pretrained(folder), outside)


def _get(config: Any, place: tuple[str, ...]) -> Any:
    for key in place:
        config = config[key]
    return config


BAD_JSON = {
    "depth": "[" * 100_000,
    "objects": '{"a":' * 200 + "1" + "}" * 200,
    "size": '{"format": 3, "x": "' + "a" * 2**20 + '"}',
    "infinity": '{"format": Infinity}',
    "overflow": '{"format": 1e999}',
    "digits": '{"format": ' + "9" * 10_000 + "}",
    "twice": '{"format": 3, "format": 3}',
    "no object": "[1]",
    "empty": "",
    "bytes": "\udcff\udcfe",
}


@pytest.mark.parametrize("text", BAD_JSON.values(), ids=list(BAD_JSON))
def test_bombs_in_json_are_refused(folder: Path, run: Path, outside: Path, text: str) -> None:
    for path, load in (
        (folder / "config.json", lambda: TalkingHead.from_pretrained(folder)),
        (run / "network.json", lambda: load_network(run)),
    ):
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        refused(load, outside)


def test_files_are_regular_and_inside(folder: Path, run: Path, outside: Path, tmp_path: Path) -> None:
    for root, name, secret, load in (
        (folder, "config.json", "config.json", lambda: TalkingHead.from_pretrained(folder)),
        (folder, "basis.safetensors", "model.safetensors", lambda: TalkingHead.from_pretrained(folder)),
        (
            folder,
            "diffusion/model.safetensors",
            "model.safetensors",
            lambda: TalkingHead.from_pretrained(folder),
        ),
        (run, "network.json", "network.json", lambda: load_network(run)),
        (run, "checkpoints/last.ckpt", "last.ckpt", lambda: load_network(run)),
    ):
        kept = tmp_path / "kept"
        (root / name).rename(kept)
        (root / name).symlink_to(outside / secret)
        assert "leads out" in refused(load, outside)
        (root / name).unlink()
        os.mkfifo(root / name)  # whoever opens it waits for ever
        refused(load, outside)
        (root / name).unlink()
        kept.rename(root / name)
    elsewhere = outside / "stage"
    (folder / "diffusion").rename(elsewhere)
    (folder / "diffusion").symlink_to(elsewhere)
    assert "leads out" in refused(lambda: TalkingHead.from_pretrained(folder), outside)


def test_weights_are_tensors_of_the_right_shapes(folder: Path, outside: Path) -> None:
    weights = folder / "diffusion" / "model.safetensors"
    header = json.dumps({"x": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
    for content in (
        pickle.dumps(Touch(outside / "made")),
        (folder / "statistics" / "model.safetensors").read_bytes(),  # of another network
        len(header).to_bytes(8, "little") + header,
        (2**62).to_bytes(8, "little"),
        b"",
    ):
        weights.write_bytes(content)
        refused(lambda: TalkingHead.from_pretrained(folder), outside)


def test_a_model_folder_names_no_speech_model(folder: Path, outside: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    for source in ("facebook/wav2vec2-base", str(outside), "${oc.env:HF_TOKEN}", "..", None):
        for name in ("mel", "wav2vec2", "hubert"):
            audio = {"name": name, "source": source}
            (folder / "config.json").write_text(json.dumps(config | {"audio": audio}))
            refused(lambda: TalkingHead.from_pretrained(folder), outside)
    for name in ("wav2vec2", "hubert"):
        (folder / "config.json").write_text(json.dumps(config | {"audio": {"name": name}}))
        assert "--speech-model" in refused(lambda: TalkingHead.from_pretrained(folder), outside)


def test_a_speech_model_in_the_folder_is_plain(folder: Path, outside: Path) -> None:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    sizes |= {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    config = json.loads((folder / "config.json").read_text()) | {"audio": {"name": "wav2vec2"}}
    config["networks"]["diffusion"]["audio_encoder"]["in_dim"] = 16
    (folder / "config.json").write_text(json.dumps(config))
    audio = folder / "audio"
    Wav2Vec2Model(Wav2Vec2Config(conv_dim=(8,) * 7, **sizes)).save_pretrained(audio)
    plain = json.loads((audio / "config.json").read_text())
    load = lambda: TalkingHead.from_pretrained(folder)  # noqa: E731
    # Whole, it is read, and what names code or kernels in it is not looked at: the networks are what doesn't fit.
    bait = {
        "auto_map": {"AutoModel": "evil--Model"},
        "attn_implementation": "evil/kernel",
        "quantization_config": CODE,
    }
    for extra in ({}, bait):
        (audio / "config.json").write_text(json.dumps(plain | extra))
        assert "different audio features" in refused(load, outside) or extra
    for change in (
        {"hidden_size": 10**9},
        {"conv_dim": [8] * 10**4},
        {"hidden_size": "x"},
        {"model_type": "evil"},
    ):
        (audio / "config.json").write_text(json.dumps(plain | change))
        refused(lambda: _frontend(folder), outside)
    (audio / "config.json").write_text(json.dumps(plain))
    for name in ("adapter_config.json", "modeling_evil.py", "pytorch_model.bin"):
        (audio / name).write_bytes(pickle.dumps(Touch(outside / "made")))
        assert name in refused(lambda: _frontend(folder), outside)
        (audio / name).unlink()
    (audio / "model.safetensors").write_bytes(pickle.dumps(Touch(outside / "made")))
    refused(lambda: _frontend(folder), outside)
    audio.rename(outside / "audio")
    audio.symlink_to(outside / "audio")
    refused(lambda: _frontend(folder), outside)


def _frontend(folder: Path) -> Any:
    from lightning_modules.audio_frontend import load_frontend

    return load_frontend("wav2vec2", folder / "audio")


@pytest.fixture
def run(model: TalkingHead, tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", model, "autoencoder")


def write_run(folder: Path, model: TalkingHead, stage: str, audio: Any = None) -> Path:
    """A run folder as training leaves it."""
    networks = {"autoencoder": model.autoencoder, "statistics": model.estimator, "diffusion": model.denoiser}
    (folder / "checkpoints").mkdir(parents=True)
    state = {f"network.{k}": v for k, v in networks[stage].state_dict().items()}
    state |= {f"basis.{k}": v for k, v in model.basis.state_dict().items()}
    torch.save({"state_dict": state, "global_step": 1}, folder / "checkpoints" / "last.ckpt")
    space = weights_hash(model.autoencoder)
    write_network_record(folder, stage, networks[stage], model.diffusion.settings(), audio, space)
    return folder


def test_a_run_is_its_record_and_tensors(model: TalkingHead, run: Path, outside: Path) -> None:
    config = run / "config.yaml"
    os.mkfifo(config)  # for people alone: a program that opened it would wait for ever
    network, spec = load_autoencoder(run)
    assert weights_hash(network) == weights_hash(model.autoencoder)
    record = json.loads((run / "network.json").read_text())
    assert record["network"] == json.loads(json.dumps(spec))
    for place in (("network", "size"), ("network", "channels"), ("network",), ("stage",), ("format",)):
        for value in VALUES.values():
            (run / "network.json").write_text(json.dumps(placed(record, place, value, outside)))
            refused(lambda: load_autoencoder(run), outside)
    (run / "network.json").write_text(json.dumps(record))
    for content in (
        Touch(outside / "made"),
        {"state_dict": Touch(outside / "made")},
        {"state_dict": {"a": 1}},
        [],
    ):
        torch.save(content, run / "checkpoints" / "last.ckpt")
        refused(lambda: load_autoencoder(run), outside)
    (run / "checkpoints" / "last.ckpt").write_bytes(pickle.dumps(Touch(outside / "made")))
    refused(lambda: load_autoencoder(run), outside)
    (run / "network.json").unlink()
    config.unlink()
    config.write_text("model: {network: {_target_: os.system}}\n")
    assert "--convert" in refused(lambda: load_autoencoder(run), outside)


def test_packing_runs_reaches_no_hub(model: TalkingHead, tmp_path: Path, outside: Path) -> None:
    audio = {"name": "wav2vec2", "source": "evil/speech"}
    runs = [
        write_run(tmp_path / stage, model, stage, audio)
        for stage in ("autoencoder", "statistics", "diffusion")
    ]
    output = tmp_path / "packed"
    pack_model(*runs, output)
    assert json.loads((output / "config.json").read_text())["audio"] == {"name": "wav2vec2"}
    assert "evil" not in "".join(
        path.read_text() for path in output.glob("*.*") if path.suffix in (".json", ".md")
    )
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in output.rglob("*"))
    assert "--speech-model" in refused(lambda: TalkingHead.from_pretrained(output), outside)
    (runs[1] / "run.json").write_text(json.dumps({"metrics": {"val/nll": "much"}}))
    refused(lambda: pack_model(*runs, tmp_path / "other"), outside)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("value", VALUES.values(), ids=list(VALUES))
def test_a_sync_expert_is_plain(tmp_path: Path, outside: Path, value: Any) -> None:
    expert = tmp_path / "expert"
    expert.mkdir()
    (expert / "model.safetensors").write_bytes(b"")
    config = {"format": 2, "network": {"name": "syncnet", "width": 0.05, "size": 64, "region": [0, 0, 1, 1]}}
    for place in (
        ("network",),
        ("network", "width"),
        ("network", "size"),
        ("network", "region"),
        ("network", "x"),
    ):
        (expert / "config.json").write_text(json.dumps(placed(config, place, value, outside)))
        refused(lambda: load_expert(expert), outside)


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
    "no text": "\0\1\2",
}


@pytest.mark.parametrize("text", YAML.values(), ids=list(YAML))
def test_converting_a_hostile_folder_does_nothing(
    tmp_path: Path, outside: Path, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    (old / "config.yaml").write_text(text.replace("OUTSIDE", str(outside)))
    before = sorted(outside.iterdir())
    assert main(["package", "--convert", str(old), "--output", str(new)]) == 2
    errors = capfd.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("ifmdm: error:")
    assert TOKEN not in errors[0]
    assert sorted(outside.iterdir()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "outside"]
    (old / "config.yaml").unlink()
    (old / "config.yaml").symlink_to(outside / "config.yaml")
    assert main(["package", "--convert", str(old), "--output", str(new)]) == 2
    assert "leads out" in capfd.readouterr().err
