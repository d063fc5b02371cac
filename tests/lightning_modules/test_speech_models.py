"""The speech model inside a model folder: sizes and tensors are read, code, kernels and other models never."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from datamodules.errors import UserError
from lightning_modules import audio_frontend
from lightning_modules.audio_frontend import AudioFrontend, load_frontend
from lightning_modules.networks.audio_encoder import FeatureProjection

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
BAIT = {
    "auto_map": {"AutoModel": "evil--Model", "AutoConfig": "evil--Config"},
    "attn_implementation": "evil/kernel",
    "_attn_implementation": "evil/kernel",
    "quantization_config": {"quant_method": "evil"},
    "name_or_path": "evil/speech",
}
WRONG: dict[str, dict[str, Any]] = {
    "huge": {"hidden_size": 10**9},
    "deep": {"num_hidden_layers": 10**6},
    "long": {"conv_dim": [8] * 10**4},
    "negative": {"hidden_size": -16},
    "text": {"hidden_size": "x"},
    "code": {"hidden_act": {"_target_": "os.system"}},
    "other": {"model_type": "evil"},
    "layers": {"num_hidden_layers": 300},
    "weights": {"hidden_size": 8192, "intermediate_size": 8192, "num_hidden_layers": 200},
    "larger than its weights": {"hidden_size": 32},
    "slower": {"conv_stride": [5, 2, 2, 2, 2, 2, 1]},
    "stride of 0": {"conv_stride": [5, 2, 2, 2, 2, 2, 0]},
    "wide": {"conv_kernel": [10, 3, 3, 3, 3, 200, 2]},
}


def write_speech_model(kind: str, folder: Path) -> Path:
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SIZES)
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
    return folder


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    return write_speech_model("Wav2Vec2", tmp_path / "model" / "audio")


@pytest.mark.parametrize(
    ("name", "kind", "other"), [("wav2vec2", "Wav2Vec2", "hubert"), ("hubert", "Hubert", "wav2vec2")]
)
def test_features_of_a_frozen_speech_model(
    name: str, kind: str, other: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = str(write_speech_model(kind, tmp_path))
    frontend = AudioFrontend(name, folder)
    assert not any(parameter.requires_grad for parameter in frontend.parameters())
    assert not frontend.train().speech_model.training
    waveform = 0.1 * torch.randn(2, 640 * 5, generator=torch.Generator().manual_seed(0))
    features = frontend(waveform)
    assert features.shape == (2, 10, 16)
    assert torch.equal(features, frontend(waveform))  # no dropout, no masking
    quiet = frontend(0.5 * waveform)
    torch.testing.assert_close(features, quiet, atol=1e-4, rtol=1e-3)  # loudness is normalised
    assert frontend.identity().startswith(f"{name}-")
    assert frontend.identity() == AudioFrontend(name, folder).identity()
    with pytest.raises(UserError, match=name):
        AudioFrontend(other, folder)


@pytest.mark.parametrize("own", [False, True])
def test_all_layers_are_there_to_be_mixed(audio: Path, own: bool) -> None:
    waveform = 0.1 * torch.randn(2, 640 * 5, generator=torch.Generator().manual_seed(0))
    last, every = (
        load_frontend(name, audio) if own else AudioFrontend(name, str(audio))
        for name in ("wav2vec2", "wav2vec2_layers")
    )
    features = every(waveform)
    layers = features.shape[-1] // 16
    assert features.shape[-1] == every.dim
    assert layers == every.speech_model.config.num_hidden_layers + 1
    normed = torch.nn.functional.layer_norm(last(waveform), (16,))
    torch.testing.assert_close(features[..., -16:], normed)
    assert not torch.allclose(features[..., :16], features[..., -16:], atol=1e-3)
    assert every.identity() != last.identity()
    projection = FeatureProjection(features.shape[-1], 8, layers)
    with torch.no_grad():
        projection.mix[-1] = 30.0  # nothing but the last
    torch.testing.assert_close(projection(features), projection.projection(normed), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="multiple"):
        FeatureProjection(17, 8, 2)


@pytest.fixture
def load(audio: Path) -> Callable[[], AudioFrontend]:
    return lambda: load_frontend("wav2vec2", audio)


def test_it_is_the_same_as_by_its_name_whatever_else_it_claims(audio: Path, load: Any, watch: Any) -> None:
    named = AudioFrontend("wav2vec2", str(audio))
    waveform = 0.1 * torch.randn(1, 640 * 5)
    plain = json.loads((audio / "config.json").read_text())
    for extra in ({}, BAIT):
        (audio / "config.json").write_text(json.dumps(plain | extra))
        frontend = watch.idle(load)
        assert torch.equal(frontend(waveform), named(waveform))
        assert frontend.identity() == named.identity()
    (audio / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    assert not torch.equal(watch.idle(load)(waveform), named(waveform))


@pytest.mark.parametrize("change", WRONG.values(), ids=list(WRONG))
def test_absurd_sizes_are_refused(audio: Path, load: Any, watch: Any, change: dict[str, Any]) -> None:
    plain = json.loads((audio / "config.json").read_text())
    (audio / "config.json").write_text(json.dumps(plain | change))
    assert watch.refused(load)


def test_a_speech_model_has_all_of_its_weights(audio: Path, load: Any, watch: Any) -> None:
    identity, weights = load().identity(), audio / "model.safetensors"
    state = load_file(weights)
    save_file(
        {name: value for name, value in state.items() if "layers.0.attention.k_proj" not in name}, weights
    )
    assert "k_proj" in watch.refused(load)
    # A recogniser as the hub has it: the model's weights by longer and older names, others beside them.
    named = {
        f"wav2vec2.{name}".replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for name, value in state.items()
    }
    save_file(named | {"lm_head.bias": torch.zeros(3)}, weights, metadata={"format": "pt"})
    assert watch.idle(load).identity() == identity


def test_only_plain_files_inside_are_read(audio: Path, load: Any, watch: Any) -> None:
    evil = pickle.dumps(watch.bomb)
    for name in ("adapter_config.json", "modeling_evil.py", "pytorch_model.bin"):
        (audio / name).write_bytes(evil)
        assert name in watch.refused(load)
        (audio / name).unlink()
    (audio / "model.safetensors").write_bytes(evil)
    assert watch.refused(load)
    (audio / "model.safetensors").unlink()
    (audio / "model.safetensors").symlink_to(watch.outside / "model.safetensors")
    assert "leads out" in watch.refused(load)
    audio.rename(watch.outside / "audio")
    audio.symlink_to(watch.outside / "audio")
    assert "inside its model folder" in watch.refused(load)


def test_a_speech_model_of_the_users_choice_and_none(audio: Path, tmp_path: Path) -> None:
    assert load_frontend("wav2vec2", tmp_path / "nothing", audio).dim == 16
    assert load_frontend("mel", tmp_path / "nothing").dim == 160
    with pytest.raises(UserError, match="leave --speech-model out"):
        load_frontend("mel", tmp_path / "nothing", audio)
    for arguments, told in (
        (("mfcc",), "unknown"),
        (("hubert",), "source"),
        (("hubert", str(tmp_path)), "cannot read"),
    ):
        with pytest.raises(UserError, match=told):
            AudioFrontend(*arguments)
    with pytest.raises(UserError, match="unknown"):
        load_frontend("mfcc", tmp_path / "nothing")


@pytest.mark.parametrize(("name", "kind"), [("wav2vec2", "Wav2Vec2"), ("hubert", "Hubert")])
def test_speech_of_minutes_is_heard_nearly_as_a_whole(
    name: str, kind: str, tmp_path: Path, monkeypatch: Any
) -> None:
    frontend = AudioFrontend(name, str(write_speech_model(kind, tmp_path)))
    waveform = 0.1 * torch.randn(1, 640 * 3100, generator=torch.Generator().manual_seed(0))
    chunked = frontend(waveform)
    monkeypatch.setattr(audio_frontend, "CHUNK", 3100)
    whole = frontend(waveform)
    assert 0 < (chunked - whole).norm() < 0.01 * whole.norm()


@pytest.mark.parametrize(("name", "alike"), [("mel", 1 - 1e-6), ("wav2vec2", 0.98)])
def test_long_speech_is_heard_in_chunks(name: str, alike: float, audio: Path, monkeypatch: Any) -> None:
    """Log-mel is the same to rounding; a speech model, which hears all of a sound, hears a little beyond a chunk."""
    frontend = AudioFrontend(name, None if name == "mel" else str(audio))
    waveform = 0.1 * torch.randn(2, 640 * 47, generator=torch.Generator().manual_seed(0))
    whole = frontend(waveform)
    lengths = []
    features = frontend._features
    monkeypatch.setattr(
        frontend, "_features", lambda sound: lengths.append(sound.shape[1]) or features(sound)
    )
    monkeypatch.setattr(audio_frontend, "CHUNK", 10)
    monkeypatch.setattr(audio_frontend, "CONTEXT", 8)
    chunked = frontend(waveform)
    assert len(lengths) == 5
    assert max(lengths) <= 640 * (10 + 2 * 8)
    assert torch.corrcoef(torch.stack([chunked.flatten(), whole.flatten()]))[0, 1] > alike


@pytest.mark.parametrize("source", ["./nowhere", "/nowhere/model", "~/nowhere"])
def test_a_folder_that_is_not_there_is_not_looked_for_on_a_hub(source):
    for name in ("whisper", "hubert"):
        with pytest.raises(UserError, match="there is no such folder"):
            AudioFrontend(name, source)


def test_a_folder_below_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match=f"{tmp_path}/model"):  # found, and empty
        AudioFrontend("hubert", "~/model")
