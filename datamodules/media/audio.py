"""Reading and writing sound, and the log-mel features of speech.

Every container and rate is read by PyAV (FFmpeg) and resampled by soxr. A sound track that comes with pictures is
put on the clock of the pictures: its first sample lies at the first frame.
"""

import logging
import math
import tempfile
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.batches import SAMPLE_RATE, SAMPLES_PER_FRAME
from datamodules.errors import UserError
from datamodules.files import require_file, whole_output
from datamodules.media.channels import fold_channels, mix_to_mono
from datamodules.media.containers import (
    MOST_LOST,
    announced_seconds,
    default_track,
    open_to_read,
    picture_track,
    promised_seconds,
    require_whole,
)
from datamodules.media.sound_decoding import MOST_SILENCE, DecodedSound, require_room
from datamodules.media.video_decoding import pictures_start

MEL_DIM = 160
"""Values per 20 ms: two columns of ``MEL_BANDS``."""

MEL_BANDS = 80
_WINDOW = 400  # 25 ms
_HOP = 160  # 10 ms
_FFT = 512
_FLOOR = 1e-5
# Mean and std of the log-mel of speech as it is published (-11 to -35 dB; 17 recordings), rounded.
_LOG_MEAN = -4.0
_LOG_STD = 4.0

_LOUDEST = 16.0  # float samples beyond this are no overshoot but another scale
_MOST_PADDING = 4096  # samples: an AAC block and the lead-in of the decoder
_MOST_PIPED = 4 * 2**30  # bytes
_log = logging.getLogger(__name__)
_LEAD_INS = 2.5  # of Opus, by which pictures may be delayed: written, copied once, and rounded


def load_audio(path: str | Path, strict: bool = False) -> np.ndarray:
    """Sound of any sound file or video as mono, ``(S,)`` float32 in [-1, 1] at 16 kHz, see `load_audio_native`."""
    return to_speech(*load_audio_native(path, strict), path)


def to_speech(waveform: np.ndarray, rate: int, path: str | Path) -> np.ndarray:
    """Sound ``(S, C)`` float32 of any rate as mono, ``(S,)`` at 16 kHz; the path is for warnings."""
    return resample(mix_to_mono(waveform, rate, path), rate, SAMPLE_RATE)


def load_audio_native(path: str | Path, strict: bool = False) -> tuple[np.ndarray, int]:
    """Read the sound of any file as it is stored: ``(S, C)`` float32 in [-1, 1], and the sample rate in Hz.

    A track that goes with pictures is cut, or padded with silence, so that its first sample lies at the first frame. Holes
    and a few damaged packets are silence; with ``strict`` they, and data that the decoder would conceal, are an error. More
    than two channels are folded to two. A pipe is read once, to its end.

    Raises:
        UserError: Missing, empty or damaged file, no sound track, no samples, or samples that are not finite.
    """
    path = require_file(path, "sound")
    try:
        with _seekable(path) as file, open_to_read(file) as container:
            stream = default_track(container.streams.audio)
            if stream is None:
                raise UserError(f"{path}: has no sound track; give a file with sound")
            sound = DecodedSound(container, stream, path, strict)
            waveform, rate = sound.waveform, sound.rate
            require_whole(path, Fraction(len(waveform), rate), promised_seconds(container, stream))
            _warn_if_cut(path, Fraction(len(waveform), rate), announced_seconds(container, stream, file))
            waveform = _without_padding(waveform, container, stream)
            late = seconds_after_pictures(sound.start, container, stream, file)
    except av.FFmpegError as error:
        raise UserError(f"{path}: cannot be read as sound ({error.strerror}); convert it to wav") from None
    if late > MOST_SILENCE:
        raise UserError(f"{path}: its sound starts {late:.0f} s after the pictures; get the file again")
    shift = round(late * rate)
    require_room(path, len(waveform) + shift, waveform.shape[1], rate)
    waveform = waveform[-shift:] if shift <= 0 else np.pad(waveform, ((shift, 0), (0, 0)))
    if not len(waveform):
        raise UserError(f"{path}: holds no sound to its pictures; give a file with sound")
    if not np.isfinite(waveform).all():
        raise UserError(f"{path}: has samples that are NaN or infinite; export the sound again")
    if (peak := float(max(waveform.max(), -waveform.min()))) > _LOUDEST:
        told = f"has samples up to {peak:.0f}, expected -1..1; scale it down or store it as PCM"
        raise UserError(f"{path}: {told}")
    return fold_channels(np.clip(waveform, -1.0, 1.0, out=waveform), sound.channels), rate


def _warn_if_cut(path: Path, lasts: Fraction, announced: Fraction | None) -> None:
    if announced is not None and lasts < announced - MOST_LOST:
        told = "%s: holds %.1f s of sound, its header announces %.1f s; it seems to be cut off"
        _log.warning(told, path, lasts, announced)


@contextmanager
def _seekable(path: Path) -> Iterator[Path]:
    """The file itself, or a copy of what comes out of a pipe, which can be opened once and never be gone back in."""
    if not path.is_fifo():
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"piped{path.suffix}"
        with path.open("rb") as pipe, copy.open("wb") as file:
            while block := pipe.read(2**20):
                file.write(block)
                if file.tell() > _MOST_PIPED:
                    told = f"gives more than {_MOST_PIPED // 2**30} GiB; give a file"
                    raise UserError(f"{path}: {told}")
        if not copy.stat().st_size:
            raise UserError(f"{path}: nothing came out of the pipe; give a file with sound")
        yield copy


def _without_padding(
    waveform: np.ndarray, container: av.container.InputContainer, stream: av.AudioStream
) -> np.ndarray:
    """Cut what AAC adds to fill its last block; the mp4 container knows the true length."""
    promised = promised_seconds(container, stream)
    if promised is None:
        return waveform
    true_length = round(promised * stream.rate)
    return waveform[:true_length] if len(waveform) - true_length < _MOST_PADDING else waveform


def seconds_after_pictures(
    start: float | None, container: av.container.InputContainer, stream: av.AudioStream, path: Path
) -> float:
    """Start of the sound minus that of the pictures; 0 without pictures, or where the file does not tell."""
    pictures = None if picture_track(container) is None else pictures_start(path)
    if pictures is None or start is None:
        return 0.0
    late = start - float(pictures)
    if stream.codec_context.name == "opus" and "matroska" in container.format.name:
        # Muxers such as FFmpeg 5's delay the pictures by the lead-in each time that they write or copy the tracks.
        lead_in = stream.codec_context.delay / stream.rate
        late = 0.0 if -_LEAD_INS * lead_in < late < 0 else late
    return late


def resample(waveform: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """Change the rate of ``(S,)`` or ``(S, C)`` float32 in [-1, 1]; overshoot is clipped, 1 sample at least."""
    if source_rate == target_rate:
        return np.ascontiguousarray(waveform, dtype=np.float32)
    import soxr

    result = soxr.resample(np.ascontiguousarray(waveform, dtype=np.float32), source_rate, target_rate)
    if not len(result):
        result = np.ascontiguousarray(waveform[:1], dtype=np.float32)
    return np.clip(result, -1.0, 1.0)


def write_wav(path: str | Path, waveform: np.ndarray) -> None:
    """Write ``(S,)`` float in [-1, 1], else clipped, as 16-bit PCM at 16 kHz; the file appears only when it is whole.

    What was read from a 16-bit file is written back exactly.

    Raises:
        UserError: The output cannot be written there.
        ValueError: Wrong shape, no samples, or samples that are not finite.
    """
    waveform = np.asarray(waveform)
    if waveform.ndim != 1 or not waveform.size or not np.isfinite(waveform).all():
        raise ValueError(f"waveform must be finite, (S,) with S > 0, got shape {waveform.shape}")
    pcm = np.clip(np.rint(waveform.astype(np.float64) * 32768), -32768, 32767).astype("<i2")
    with whole_output(path) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(pcm.tobytes())


def frame_count(samples: int) -> int:
    """Video frames that ``samples`` of 16 kHz sound last, begun frames included; at least 1."""
    return max(1, math.ceil(samples / SAMPLES_PER_FRAME))


def fit_length(waveform: np.ndarray, frames: int) -> np.ndarray:
    """Cut ``(S,)`` 16 kHz sound, or pad it with silence, to ``640 * frames`` samples."""
    length = frames * SAMPLES_PER_FRAME
    return np.pad(waveform[:length], (0, max(0, length - len(waveform))))


def in_chunks(listen: Callable[[Tensor], Tensor], waveform: Tensor, chunk: int, context: int) -> Tensor:
    """What ``listen`` makes of ``waveform (B, 640 T)``, two vectors a frame ``(B, 2T, D)``, if need be in chunks.

    Each chunk is of ``chunk`` frames; ``context`` frames more are heard at either side, where there are any. So memory beside
    the vectors doesn't grow with the speech.
    """
    frames = waveform.shape[1] // SAMPLES_PER_FRAME
    if frames <= chunk:
        return listen(waveform)
    vectors: Tensor | None = None
    for start in range(0, frames, chunk):
        first, end = max(start - context, 0), min(start + chunk, frames)
        until = None if end == frames else (end + context) * SAMPLES_PER_FRAME
        found = listen(waveform[:, first * SAMPLES_PER_FRAME : until])
        if vectors is None:
            vectors = found.new_empty(len(found), 2 * frames, found.shape[-1])
        vectors[:, 2 * start : 2 * end] = found[:, 2 * (start - first) : 2 * (end - first)]
    assert vectors is not None
    return vectors


def log_mel(waveform: Tensor) -> Tensor:
    """Log-mel features of speech at 50 Hz, the input of the trained ``mel`` audio encoder.

    80 bands from 0 to 8 kHz (Slaney's mel scale, triangles of unit peak) of the power spectrum; periodic Hann window
    of 25 ms, hop 10 ms, window centred on the middle of its hop; natural logarithm of at least 1e-5, shifted and
    scaled by constants to about zero mean and unit std on speech. Two columns are stacked to one of 20 ms, the
    earlier first.

    Args:
        waveform: ``(B, 640 T)`` float in [-1, 1] at 16 kHz.

    Returns:
        ``(B, 2 T, 160)``; differentiable, no dependence on anything further than 200 samples from a column's centres.

    Raises:
        ValueError: The length is no multiple of 640.
    """
    if waveform.ndim != 2 or waveform.shape[1] == 0 or waveform.shape[1] % SAMPLES_PER_FRAME:
        raise ValueError(f"waveform must be (B, 640 T) with T > 0, got {tuple(waveform.shape)}")
    window, bank = _mel_tables(waveform.device, waveform.dtype)
    padded = F.pad(waveform, ((_WINDOW - _HOP) // 2, (_WINDOW - _HOP) // 2))
    columns = padded.unfold(1, _WINDOW, _HOP) * window  # (B, 4T, 400)
    spectrum = torch.fft.rfft(columns, n=_FFT)  # (B, 4T, 257)
    power = spectrum.real.square() + spectrum.imag.square()
    logarithm = (power @ bank).clamp_min(_FLOOR).log()  # (B, 4T, 80)
    return ((logarithm - _LOG_MEAN) / _LOG_STD).unflatten(1, (-1, 2)).flatten(2)  # (B, 2T, 160)


@lru_cache(maxsize=8)
def _mel_tables(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Hann window ``(400,)`` and filterbank ``(257, 80)``; ordinary tensors even under inference mode."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)
    with torch.inference_mode(False):
        window = torch.from_numpy(hann).to(device, dtype)
        bank = torch.from_numpy(mel_filterbank(MEL_BANDS, _FFT, SAMPLE_RATE)).to(device, dtype)
    return window, bank


def mel_filterbank(bands: int, fft: int, sample_rate: int) -> np.ndarray:
    """Triangular filters of unit peak, evenly spaced on Slaney's mel scale from 0 Hz to half the rate.

    Slaney's scale (Auditory Toolbox, 1998) is linear up to 1 kHz (15 mel), logarithmic above (27 mel per factor of 6.4).
    Returns ``(fft // 2 + 1, bands)`` float64.
    """
    per_mel, growth = 200 / 3, math.log(6.4) / 27
    highest = 15 + math.log(sample_rate / 2 / 1000) / growth
    mels = np.linspace(0, highest, bands + 2)
    corners = np.where(mels < 15, mels * per_mel, 1000 * np.exp((mels - 15) * growth))
    frequencies = np.linspace(0, sample_rate / 2, fft // 2 + 1)[:, None]
    lower, peak, upper = corners[:-2], corners[1:-1], corners[2:]
    rising = (frequencies - lower) / (peak - lower)
    falling = (upper - frequencies) / (upper - peak)
    return np.maximum(0, np.minimum(rising, falling))
