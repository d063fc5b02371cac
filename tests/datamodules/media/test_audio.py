"""Reading and writing sound; log-mel features."""

import numpy as np
import pytest
import scipy.signal
import soundfile
import torch

from datamodules.errors import UserError
from datamodules.media import audio
from datamodules.media.video import probe


def tone(rate: int, seconds: float, hertz: float = 440.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("rate", "subtype"),
    [
        (8000, "PCM_16"), (16000, "FLOAT"), (22050, "PCM_U8"), (44100, "PCM_16"), (48000, "PCM_24"), (48000, "PCM_32"),
        (16000, "DOUBLE"),
    ],
)  # fmt: skip
def test_every_rate_and_sample_format_gives_the_same_sound(tmp_path, rate, subtype, channels):
    wave = tone(rate, 1.0)
    soundfile.write(tmp_path / "a.wav", np.stack([wave] * channels, 1), rate, subtype=subtype)
    native, native_rate = audio.load_audio_native(tmp_path / "a.wav")
    assert native_rate == rate
    assert native.shape == (rate, channels)
    assert native.dtype == np.float32
    step = 2 / 128 if subtype == "PCM_U8" else 1 / 16384
    np.testing.assert_allclose(native[:, 0], wave, atol=step)
    mono = audio.load_audio(tmp_path / "a.wav")
    assert mono.shape == (16000,)
    assert mono.dtype == np.float32
    inside = slice(800, -800)  # resampling rings at the ends
    np.testing.assert_allclose(mono[inside], tone(16000, 1.0)[inside], atol=max(step, 2e-3))


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3"])
def test_compressed_sound_is_read(tmp_path, suffix):
    soundfile.write(tmp_path / f"a.{suffix}", tone(44100, 1.0), 44100)
    mono = audio.load_audio(tmp_path / f"a.{suffix}")
    assert len(mono) == pytest.approx(16000, abs=16000 * 0.08)
    spectrum = np.abs(np.fft.rfft(mono[2000:14000] * np.hanning(12000)))
    assert spectrum.argmax() * 16000 / 12000 == pytest.approx(440, abs=2)


def test_channels_are_averaged(tmp_path):
    left, right = tone(16000, 0.1), tone(16000, 0.1, hertz=300)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), 16000)
    np.testing.assert_allclose(audio.load_audio(tmp_path / "a.wav"), (left + right) / 2, atol=1e-4)


def test_16_bit_sound_survives_reading_and_writing_exactly(tmp_path):
    pcm = np.random.default_rng(0).integers(-32768, 32768, 1000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", pcm, 16000)
    audio.write_wav(tmp_path / "b.wav", audio.load_audio(tmp_path / "a.wav"))
    np.testing.assert_array_equal(soundfile.read(tmp_path / "b.wav", dtype="int16")[0], pcm)


def test_overshoot_is_clipped(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(16000, 0.1, level=1.5), 16000, subtype="FLOAT")
    assert np.abs(audio.load_audio(tmp_path / "a.wav")).max() == 1.0


def test_no_wav_is_left_where_writing_is_refused(tmp_path):
    for wrong in (np.array([0.0, np.nan]), np.zeros((10, 2)), np.zeros(0)):
        with pytest.raises(ValueError, match="finite"):
            audio.write_wav(tmp_path / "a.wav", wrong)
    with pytest.raises(UserError, match="folder"):
        audio.write_wav(tmp_path / "none" / "a.wav", np.zeros(10))
    with pytest.raises(UserError, match="folder"):
        audio.write_wav(tmp_path, np.zeros(10))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("samples", "frames"), [(0, 1), (1, 1), (640, 1), (641, 2), (16000, 25), (16001, 26)]
)
def test_frame_count_includes_the_begun_frame(samples, frames):
    assert audio.frame_count(samples) == frames
    fitted = audio.fit_length(np.ones(samples, np.float32), frames)
    assert fitted.shape == (640 * frames,)
    assert fitted.sum() == samples
    np.testing.assert_array_equal(audio.fit_length(np.arange(2000.0), 2), np.arange(1280.0))


def test_real_speech(shared):
    paths = sorted((shared / "data/speech").glob("*.wav"))
    assert len(paths) >= 8
    for path in paths:
        expected, rate = soundfile.read(path, dtype="float32", always_2d=True)
        native, native_rate = audio.load_audio_native(path)
        assert native_rate == rate
        np.testing.assert_array_equal(native, expected.clip(-1, 1))
        mono = audio.load_audio(path)
        assert len(mono) / 16000 == pytest.approx(len(expected) / rate, abs=1e-3)
        assert 0.1 < np.abs(mono).max() <= 1
        features = audio.log_mel(torch.from_numpy(audio.fit_length(mono, audio.frame_count(len(mono))))[None])
        assert abs(features.mean()) < 1
        assert 0.5 < features.std() < 1.5


def test_sound_of_a_video_is_on_the_clock_of_its_pictures(shared):
    path = shared / "data" / "clips" / "stage_cuts_no_face.mp4"  # pictures begin 0.84 s after the sound
    mono = audio.load_audio(path)
    assert len(mono) / 16000 == pytest.approx(probe(path).duration, abs=0.04)
    with audio.av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    whole = np.concatenate([frame.to_ndarray() for frame in frames], 1).mean(0)
    native = audio.load_audio_native(path)[0].mean(1)
    shift = round((10214 - 353 * 11988 / 44100) / 11988 * 44100)  # start times in ticks of the file
    np.testing.assert_allclose(native[:4000], whole[shift : shift + 4000], atol=1e-6)


def reference_log_mel(waveform: np.ndarray) -> np.ndarray:
    """The same features by scipy's STFT and filters written out one by one."""
    window = scipy.signal.get_window("hann", 400)
    options = {"nperseg": 400, "noverlap": 240, "nfft": 512, "boundary": None, "padded": False}
    _, _, spectrum = scipy.signal.stft(np.pad(waveform, 120), window=window, scaling="spectrum", **options)
    power = np.abs(spectrum * window.sum()) ** 2
    columns = len(waveform) // 160

    def mel(hertz):
        return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * np.log(hertz / 1000) / np.log(6.4)

    mels = np.array([mel(hertz) for hertz in np.linspace(0, 8000, 800001)])
    corners = np.interp(np.linspace(0, mel(8000), 82), mels, np.linspace(0, 8000, 800001))
    bank = np.array([np.interp(np.arange(257) * 31.25, corners[i : i + 3], (0, 1, 0)) for i in range(80)])
    features = (np.log(np.maximum(bank @ power, 1e-5)) + 4) / 4
    return features.T.reshape(columns // 2, 160)


def noise(frames: int, batch: int = 1) -> torch.Tensor:
    return 0.1 * torch.randn(batch, 640 * frames, generator=torch.Generator().manual_seed(0))


def test_log_mel_agrees_with_scipy():
    waveform = noise(9, batch=2) + torch.from_numpy(tone(16000, 9 * 0.04, hertz=1234.0))
    expected = np.stack([reference_log_mel(one) for one in waveform.double().numpy()])
    np.testing.assert_allclose(audio.log_mel(waveform), expected, atol=2e-3)
    np.testing.assert_allclose(audio.log_mel(waveform.double()), expected, atol=1e-5)
    with pytest.raises(ValueError, match="640 T"):
        audio.log_mel(torch.zeros(1, 641))


def test_log_mel_of_silence_is_its_floor_and_every_band_hears_something():
    silence = audio.log_mel(torch.zeros(1, 640))
    assert silence.unique().numel() == 1
    quantised = torch.randint(0, 2, (1, 640), generator=torch.Generator().manual_seed(0)) / 32768
    assert (
        audio.log_mel(quantised)[..., 1:80] == silence[..., 1:80]
    ).all()  # the last bit is below the floor
    assert (audio.mel_filterbank(80, 512, 16000).sum(0) > 0).all()
    assert (audio.log_mel(noise(1)) > silence).all()


def test_log_mel_is_differentiable_even_after_inference_mode():
    audio._mel_tables.cache_clear()
    with torch.inference_mode():
        audio.log_mel(noise(1))
    waveform = noise(2).requires_grad_()
    audio.log_mel(waveform).sum().backward()
    assert waveform.grad is not None
    assert waveform.grad.isfinite().all()
    assert waveform.grad.abs().sum() > 0
