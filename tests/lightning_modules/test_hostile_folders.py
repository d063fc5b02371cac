"""Folders of strangers can be wrong, but can not act: nothing runs, nothing outside is read, nothing leaves, one line each.

An audit hook of Python watches connections, processes and opened files, so that nothing has to be replaced for it.
"""

import copy
import functools
import json
import os
import pickle
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from experiments.package import pack_model
from lightning_modules.checkpoints import (
    load_autoencoder,
    load_network,
    motion_space_of,
    network_record,
    weights_hash,
    write_network_record,
)
from lightning_modules.generation.talking_head import TalkingHead
from lightning_modules.model_folder import STAGES
from lightning_modules.networks import registry
from metrics.judges.syncnet import SyncNet, load_expert


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
    "identity": ("audio", "identity"),
    "stage": ("networks", "statistics"),
    "networks": ("networks",),
    "format": ("format",),
}


def place(path: Path, config: dict[str, Any], keys: tuple[str, ...], value: Any, outside: Path) -> None:
    """Write a config with a value at a place."""
    changed = node = copy.deepcopy(config)
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = json.loads(json.dumps(value).replace("OUTSIDE", str(outside)))
    path.write_text(json.dumps(changed))


@pytest.fixture
def folder(model: TalkingHead, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_the_watch_sees_what_happens(watch: Any) -> None:
    for action in (
        lambda: (watch.outside / "config.json").read_text(),
        lambda: (watch.outside / "made").touch(),
        lambda: os.system("true"),
        lambda: subprocess.run(["true"], check=True),
        lambda: socket.create_connection(("localhost", 9), timeout=0.1),
    ):
        with pytest.raises(AssertionError):
            watch.idle(action)


@pytest.mark.parametrize("keys", PLACES.values(), ids=list(PLACES))
def test_no_value_of_a_model_config_acts(folder: Path, watch: Any, keys: tuple[str, ...]) -> None:
    config = json.loads((folder / "config.json").read_text())
    for value in VALUES.values():
        place(folder / "config.json", config, keys, value, watch.outside)
        assert watch.refused(lambda: TalkingHead.from_pretrained(folder))


@pytest.mark.parametrize("key", ["_target_", "_args_", "_partial_", "auto_map", "__class__", "source"])
def test_no_unknown_key_is_looked_at(folder: Path, watch: Any, key: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    audio_encoder = ("networks", "diffusion", "audio_encoder")
    for keys in (("networks", "autoencoder"), audio_encoder, ("diffusion",), ("audio",)):
        place(folder / "config.json", config, (*keys, key), "os.system", watch.outside)
        assert watch.refused(lambda: TalkingHead.from_pretrained(folder))


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
def test_bombs_in_json_are_refused(folder: Path, run: Path, watch: Any, text: str) -> None:
    for path, load in (
        (folder / "config.json", lambda: TalkingHead.from_pretrained(folder)),
        (run / "network.json", lambda: load_network(run)),
    ):
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        assert watch.refused(load)


def test_files_are_regular_and_inside(folder: Path, run: Path, watch: Any, tmp_path: Path) -> None:
    for root, name, secret, load in (
        (folder, "config.json", "config.json", TalkingHead.from_pretrained),
        (folder, "basis.safetensors", "model.safetensors", TalkingHead.from_pretrained),
        (folder, "diffusion/model.safetensors", "model.safetensors", TalkingHead.from_pretrained),
        (run, "network.json", "network.json", load_network),
        (run, "checkpoints/last.ckpt", "last.ckpt", load_network),
    ):
        action = functools.partial(load, root)
        kept = tmp_path / "kept"
        (root / name).rename(kept)
        (root / name).symlink_to(watch.outside / secret)
        assert "leads out" in watch.refused(action)
        (root / name).unlink()
        os.mkfifo(root / name)  # whoever opens it waits for ever
        assert watch.refused(action)
        (root / name).unlink()
        kept.rename(root / name)
    elsewhere = watch.outside / "stage"
    (folder / "diffusion").rename(elsewhere)
    (folder / "diffusion").symlink_to(elsewhere)
    assert "leads out" in watch.refused(lambda: TalkingHead.from_pretrained(folder))


def test_weights_are_tensors_of_the_right_shapes(folder: Path, watch: Any) -> None:
    weights = folder / "diffusion" / "model.safetensors"
    header = json.dumps({"x": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
    for content in (
        pickle.dumps(watch.bomb),
        (folder / "statistics" / "model.safetensors").read_bytes(),  # of another network
        len(header).to_bytes(8, "little") + header,
        (2**62).to_bytes(8, "little"),
        b"",
    ):
        weights.write_bytes(content)
        assert watch.refused(lambda: TalkingHead.from_pretrained(folder))


def test_blocks_of_a_basis_lie_within_the_motion(folder: Path, watch: Any) -> None:
    state = load_file(folder / "basis.safetensors")
    for sizes in ([10**18, 1, 1], [-1, 1, 1], [10, 10, 1]):
        save_file(state | {"sizes": torch.tensor(sizes)}, folder / "basis.safetensors")
        assert "blocks" in watch.refused(lambda: TalkingHead.from_pretrained(folder))


def test_a_model_folder_names_no_speech_model(folder: Path, watch: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    sources = ("facebook/wav2vec2-base", str(watch.outside), "${oc.env:HF_TOKEN}", "..", None)
    for audio in ({"name": name, "source": source} for name in ("mel", "hubert") for source in sources):
        (folder / "config.json").write_text(json.dumps(config | {"audio": audio}))
        assert watch.refused(lambda: TalkingHead.from_pretrained(folder))
    for name in ("wav2vec2", "hubert"):
        (folder / "config.json").write_text(json.dumps(config | {"audio": {"name": name}}))
        assert "--speech-model" in watch.refused(lambda: TalkingHead.from_pretrained(folder))


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
    space = motion_space_of(model.autoencoder)
    write_network_record(
        folder, network_record(stage, networks[stage], model.diffusion.settings(), audio, space)
    )
    return folder


def test_a_run_is_its_record_and_tensors(model: TalkingHead, run: Path, watch: Any) -> None:
    config = run / "config.yaml"
    os.mkfifo(config)  # for people alone: a program that opened it would wait for ever
    network, spec = load_autoencoder(run)
    assert weights_hash(network) == weights_hash(model.autoencoder)
    record = json.loads((run / "network.json").read_text())
    assert record["network"] == json.loads(json.dumps(spec))
    for keys in (("network", "size"), ("network", "channels"), ("network",), ("stage",), ("format",)):
        for value in VALUES.values():
            place(run / "network.json", record, keys, value, watch.outside)
            assert watch.refused(lambda: load_autoencoder(run))
    (run / "network.json").write_text(json.dumps(record))
    for content in (watch.bomb, {"state_dict": watch.bomb}, {"state_dict": {"a": 1}}, []):
        torch.save(content, run / "checkpoints" / "last.ckpt")
        assert watch.refused(lambda: load_autoencoder(run))
    (run / "checkpoints" / "last.ckpt").write_bytes(pickle.dumps(watch.bomb))
    assert watch.refused(lambda: load_autoencoder(run))
    (run / "network.json").unlink()
    config.unlink()
    config.write_text("model: {network: {_target_: os.system}}\n")
    assert "--convert" in watch.refused(lambda: load_autoencoder(run))


def test_packing_runs_reaches_no_hub(model: TalkingHead, tmp_path: Path, watch: Any) -> None:
    audio = {"name": "wav2vec2", "source": "evil/speech"}
    runs = [write_run(tmp_path / stage, model, stage, audio) for stage in STAGES]
    output = tmp_path / "packed"
    pack_model(*runs, output)
    assert json.loads((output / "config.json").read_text())["audio"] == {"name": "wav2vec2"}
    written = [path.read_text() for path in output.glob("*.*") if path.suffix in (".json", ".md")]
    assert "evil" not in "".join(written)
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in output.rglob("*"))
    assert "--speech-model" in watch.refused(lambda: TalkingHead.from_pretrained(output))
    (runs[1] / "run.json").write_text(json.dumps({"metrics": {"val/nll": "much"}}))
    assert watch.refused(lambda: pack_model(*runs, tmp_path / "other"))
    assert not (tmp_path / "other").exists()
    record = json.loads((runs[1] / "network.json").read_text())
    (runs[1] / "network.json").write_text(json.dumps({**record, "motion_space": "0" * 16}))
    told = watch.refused(lambda: pack_model(*runs, tmp_path / "other"))
    assert f"train statistics anew by autoencoder={runs[0]}" in told


@pytest.mark.parametrize("value", VALUES.values(), ids=list(VALUES))
def test_a_sync_expert_is_plain(tmp_path: Path, watch: Any, value: Any) -> None:
    expert = tmp_path / "expert"
    expert.mkdir()
    (expert / "model.safetensors").write_bytes(b"")
    config = {"format": 2, "network": {"name": "syncnet", "width": 0.05, "size": 64, "region": [0, 0, 1, 1]}}
    for keys in (("network",), *(("network", name) for name in ("width", "size", "region", "x"))):
        place(expert / "config.json", config, keys, value, watch.outside)
        assert watch.refused(lambda: load_expert(expert))


@pytest.fixture
def planned_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network may be planned, but one that takes memory may not be built."""

    def guarded(build: Callable[..., Any]) -> Callable[..., Any]:
        def planned(*args: Any, **options: Any) -> Any:
            assert torch.get_default_device().type == "meta", "allocates"
            return build(*args, **options)

        return functools.wraps(build)(planned)

    monkeypatch.setattr(registry, "_build", guarded(registry._build))
    monkeypatch.setattr(SyncNet, "__init__", guarded(SyncNet.__init__))


def test_a_large_network_without_its_weights_is_never_built(
    folder: Path, run: Path, watch: Any, planned_only: None
) -> None:
    config = json.loads((folder / "config.json").read_text())
    place(folder / "config.json", config, ("networks", "autoencoder", "channels", "4"), 4096, run)
    assert "don't fit" in watch.refused(lambda: TalkingHead.from_pretrained(folder))
    record = json.loads((run / "network.json").read_text())
    place(run / "network.json", record, ("network", "channels", "4"), 4096, run)
    assert "don't fit" in watch.refused(lambda: load_network(run))
    expert = {"name": "syncnet", "width": 4, "size": 1024, "region": [0, 0, 1, 1]}
    (folder / "config.json").write_text(json.dumps({"format": 2, "network": expert}))
    save_file({"netfclip.0.weight": torch.zeros(2, 2)}, folder / "model.safetensors")
    assert "don't fit" in watch.refused(lambda: load_expert(folder))


def test_tensors_without_values_of_their_own_are_refused(
    model: TalkingHead, run: Path, watch: Any, planned_only: None
) -> None:
    shapes = {f"network.{name}": value for name, value in model.autoencoder.state_dict().items()}
    for state in (
        {name: torch.zeros(1, dtype=value.dtype).expand(value.shape) for name, value in shapes.items()},
        {name: torch.empty_like(value, device="meta") for name, value in shapes.items()},
        {name: value.to_sparse() if value.ndim else value for name, value in shapes.items()},
    ):
        torch.save({"state_dict": state}, run / "checkpoints" / "last.ckpt")
        assert watch.refused(lambda: load_network(run))


def test_tables_beside_the_weights_are_small(model: TalkingHead, tmp_path: Path, watch: Any) -> None:
    run = write_run(tmp_path / "long", model, "diffusion")
    record = json.loads((run / "network.json").read_text())
    load_network(run)
    plan = registry.plan_network(
        "diffusion_transformer", **(SMALL_DENOISER | {"width": 1024, "window": 8192})
    )
    state = {f"network.{key}": torch.zeros(value.shape) for key, value in plan.state_dict().items()}
    torch.save({"state_dict": state}, run / "checkpoints" / "last.ckpt")
    (run / "network.json").write_text(json.dumps(record | {"network": registry.network_spec(plan)}))
    assert "beside its weights" in watch.refused(lambda: load_network(run))


SMALL_DENOISER: dict[str, Any] = {
    "audio_encoder": {"name": "feature_projection", "in_dim": 8, "out_dim": 8},
    "heads": 2,
    "depth": 0,
    "mlp_ratio": 1,
}
