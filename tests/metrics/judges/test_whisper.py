"""Whisper as a frozen listener: what transformers makes of the same sound, any length, and what of it is place alone."""

import importlib.util
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.batches import SAMPLES_PER_FRAME
from datamodules.errors import UserError
from lightning_modules.audio_frontend import AudioFrontend, load_frontend
from metrics.judges import whisper
from metrics.judges.whisper import LONGEST, Whisper

installed = pytest.mark.skipif(
    importlib.util.find_spec("ctranslate2") is None
    or importlib.util.find_spec(whisper.MODEL_PACKAGE) is None,
    reason="the extra 'whisper' is not installed: pip install 'ifmdm[whisper]'",
)


def syllables(frames: int, seed: int = 0) -> Tensor:
    """Sound ``(1, 640 frames)`` whose loudness and pitch go up and down as speech's do."""
    random = np.random.default_rng(seed)
    count = frames * SAMPLES_PER_FRAME
    marks = np.arange(0, count + 4000, 2000)
    pitch, loud = (
        np.interp(np.arange(count), marks, random.uniform(*reach, len(marks)))
        for reach in ((90, 260), (0, 1))
    )
    phase = 2 * np.pi * np.cumsum(pitch) / 16000
    voice = sum(np.sin(k * phase) / k for k in range(1, 12))
    return torch.tensor(0.2 * loud**2 * voice, dtype=torch.float32)[None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from transformers import WhisperConfig, WhisperModel

    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=32, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=64, decoder_layers=1,
        decoder_attention_heads=2, decoder_ffn_dim=64, vocab_size=60, num_mel_bins=80,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("whisper")
    WhisperModel(config).save_pretrained(path)
    return str(path)


def test_half_a_minute_is_heard_as_transformers_hears_it(folder):
    from transformers import WhisperFeatureExtractor, WhisperModel

    heard, sound = Whisper(folder), syllables(LONGEST)
    spectrum = WhisperFeatureExtractor()(sound[0].numpy(), sampling_rate=16000, return_tensors="pt")
    encoder = WhisperModel.from_pretrained(folder).encoder.eval()
    with torch.no_grad():
        expected = encoder(spectrum["input_features"]).last_hidden_state
    torch.testing.assert_close(heard(sound) + heard.silence, expected, atol=1e-4, rtol=1e-4)


def test_silence_has_no_vectors_wherever_it_is(folder):
    heard = Whisper(folder)
    assert heard(torch.zeros(1, LONGEST * SAMPLES_PER_FRAME)).abs().max() < 1e-5
    assert heard(syllables(50)).abs().max() > 0.1


@pytest.mark.parametrize("frames", [1, 40, LONGEST, LONGEST + 1, 1300])
def test_two_vectors_a_frame_whatever_the_length(folder, frames):
    frontend = AudioFrontend("whisper", folder)
    features = frontend(syllables(frames))
    assert features.shape == (1, 2 * frames, frontend.dim)
    assert features.isfinite().all()


def test_chunks_hear_what_is_before_and_after_them(folder):
    frontend, sound = AudioFrontend("whisper", folder), syllables(1300)
    whole, alone = frontend(sound), frontend(sound[:, 500 * SAMPLES_PER_FRAME : 1000 * SAMPLES_PER_FRAME])
    second = Whisper(folder)(sound[:, 375 * SAMPLES_PER_FRAME : 1125 * SAMPLES_PER_FRAME])[:, 250:1250]
    torch.testing.assert_close(whole[:, 1000:2000], second, atol=1e-5, rtol=1e-4)
    assert (alone - second).abs().max() > 1e-2


def test_latents_of_other_weights_have_another_key(folder, tmp_path):
    from transformers import WhisperModel

    model = WhisperModel.from_pretrained(folder)
    with torch.no_grad():
        model.encoder.conv1.weight.mul_(1.5)
    model.save_pretrained(tmp_path)
    first, second = (AudioFrontend("whisper", str(path)).identity() for path in (folder, tmp_path))
    assert first.startswith("whisper-")
    assert first != second
    assert first == AudioFrontend("whisper", folder).identity()


def test_networks_of_other_weights_do_not_hear_by_the_packaged_ones(folder, tmp_path):
    pytest.importorskip("ctranslate2", reason="pip install 'ifmdm[whisper]'")
    identity, place = AudioFrontend("whisper", folder).identity(), tmp_path / "model" / "audio"
    with pytest.raises(UserError, match=f"{identity}.*--speech-model"):
        load_frontend("whisper", place, identity=identity)
    assert load_frontend("whisper", place, folder, identity).identity() == identity


def test_a_model_of_another_kind_is_refused_and_half_precision_is_read(folder, tmp_path):
    from transformers import Wav2Vec2Config, Wav2Vec2Model, WhisperModel

    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8,), conv_stride=(5,),
        conv_kernel=(10,), num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    Wav2Vec2Model(config).save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match="holds a wav2vec2 model, not whisper"):
        Whisper(str(tmp_path / "other"))
    WhisperModel.from_pretrained(folder).half().save_pretrained(tmp_path / "half")
    heard, full = (Whisper(str(path))(syllables(20)) for path in (tmp_path / "half", folder))
    assert heard.dtype == torch.float32
    torch.testing.assert_close(heard, full, atol=0.02, rtol=0.02)


def test_what_cannot_be_read_is_told_in_a_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="cannot read the whisper model"):
        Whisper(str(tmp_path / "nothing"))
    monkeypatch.setattr(whisper, "MODEL_PACKAGE", "no_such_package")
    with pytest.raises(UserError, match=r"ifmdm\[whisper\]"):
        Whisper()


@installed
def test_it_is_installed_where_both_packages_are_whole(tmp_path, monkeypatch):
    assert whisper.is_installed()
    for gone in (ImportError, OSError):
        with monkeypatch.context() as patch:
            patch.setattr(whisper.importlib, "import_module", Mock(side_effect=gone))
            assert not whisper.is_installed()
    monkeypatch.setattr(whisper, "packaged_model", lambda: tmp_path)  # without weights
    assert not whisper.is_installed()


@installed
def test_without_the_package_it_is_not_installed(monkeypatch):
    monkeypatch.setattr(whisper, "MODEL_PACKAGE", "no_such_package")
    assert not whisper.is_installed()


@installed
def test_damaged_weights_are_told_in_a_line(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"nothing")
    with pytest.raises(UserError, match="can't be read as a Whisper model"):
        Whisper(str(tmp_path))


@installed
def test_the_same_sound_later_has_nearly_the_same_vectors():
    """By the packaged model: without what silence has there they would hardly agree."""
    heard, sound, later = Whisper(), syllables(500), 100
    with torch.no_grad():
        first = heard(sound)[:, 2 * later :]
        second = heard(sound[:, later * SAMPLES_PER_FRAME :])
    places = heard.silence[:, : 2 * 500]

    def agreement(one: Tensor, two: Tensor) -> float:
        inner = slice(100, -100)  # the edges hear less
        one, two = (x[:, inner] - x[:, inner].mean(dim=1, keepdim=True) for x in (one, two))
        return float((one * two).sum() / (one.norm() * two.norm()))

    raw = agreement(first + places[:, 2 * later :], second + places[:, : second.shape[1]])
    assert agreement(first, second) > max(0.8, raw + 0.1)
