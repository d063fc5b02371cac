import torch

from lightning_modules.audio_frontend import AudioFrontend
from lightning_modules.networks.audio_encoder import AttentionPooling, FeatureProjection, MelEncoder


def test_mel_encoder_sees_300_ms_each_side_and_nothing_more():
    torch.manual_seed(0)
    encoder = MelEncoder(in_dim=8, width=16, out_dim=6)
    audio = torch.randn(1, 64, 8, requires_grad=True)
    encoder(audio)[0, 32].square().sum().backward()
    touched = audio.grad[0].abs().sum(-1).nonzero().flatten()
    assert (touched.min(), touched.max()) == (32 - 15, 32 + 15)


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
