import pytest
import torch

from datamodules.errors import UserError
from lightning_modules.audio_frontend import AudioFrontend
from lightning_modules.networks.audio_encoder import AttentionPooling, FeatureProjection, MelEncoder


def test_mel_encoder_sees_300_ms_each_side_and_nothing_more():
    torch.manual_seed(0)
    encoder = MelEncoder(in_dim=8, width=16, out_dim=6)
    audio = torch.randn(1, 64, 8, requires_grad=True)
    encoder(audio)[0, 32].square().sum().backward()
    touched = audio.grad[0].abs().sum(-1).nonzero().flatten()
    assert touched.min() == 32 - MelEncoder.RADIUS
    assert touched.max() == 32 + MelEncoder.RADIUS


def test_encoders_keep_time_and_declare_their_sizes():
    for encoder in (MelEncoder(160, 16, 12), FeatureProjection(160, 12)):
        out = encoder(torch.randn(2, 20, encoder.in_dim))
        assert out.shape == (2, 20, encoder.out_dim) == (2, 20, 12)


def test_attention_pooling_starts_as_mean():
    hidden = torch.randn(2, 9, 8)
    torch.testing.assert_close(AttentionPooling(8, heads=2)(hidden), hidden.mean(1))


def test_mel_frontend_gives_two_vectors_a_frame():
    frontend = AudioFrontend("mel")
    features = frontend(0.1 * torch.randn(2, 640 * 7))
    assert features.shape == (2, 14, frontend.dim) == (2, 14, 160)
    assert frontend.identity() == "mel-160"


def _tiny_model(name, folder):
    from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model

    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "conv_dim": (8,) * 7,
        "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
    }
    torch.manual_seed(0)
    model = (
        Wav2Vec2Model(Wav2Vec2Config(**sizes)) if name == "wav2vec2" else HubertModel(HubertConfig(**sizes))
    )
    model.save_pretrained(folder)


@pytest.mark.parametrize("name", ["wav2vec2", "hubert"])
def test_speech_model_frontend(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    _tiny_model(name, tmp_path)
    frontend = AudioFrontend(name, str(tmp_path))
    assert not any(parameter.requires_grad for parameter in frontend.parameters())
    frontend.train()
    assert not frontend.speech_model.training
    waveform = 0.1 * torch.randn(2, 640 * 5, generator=torch.Generator().manual_seed(0))
    features = frontend(waveform)
    assert features.shape == (2, 10, 16)
    assert torch.equal(features, frontend(waveform))  # no dropout, no masking
    torch.testing.assert_close(
        features, frontend(0.5 * waveform), atol=1e-4, rtol=1e-3
    )  # loudness is normalised
    assert frontend.identity().startswith(f"{name}-")
    assert frontend.identity() == AudioFrontend(name, str(tmp_path)).identity()
    other = "hubert" if name == "wav2vec2" else "wav2vec2"
    with pytest.raises(UserError, match=name):
        AudioFrontend(other, str(tmp_path))


def test_frontend_errors(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="unknown"):
        AudioFrontend("mfcc")
    with pytest.raises(UserError, match="source"):
        AudioFrontend("hubert")
    with pytest.raises(UserError, match="cannot read"):
        AudioFrontend("wav2vec2", str(tmp_path))
