"""The sound track of a video that is being written: AAC, in step with the pictures."""

from fractions import Fraction

import av
import numpy as np

from datamodules.media.audio import resample

_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


def encodable_sound(audio: np.ndarray, sample_rate: int) -> tuple[np.ndarray, int]:
    """Sound as ``(S, C)`` float32, and a rate that AAC has: its own or the next higher one, 48 kHz at most.

    ``audio`` is ``(S,)`` or ``(S, C)`` float in [-1, 1], else ValueError; more than two channels are averaged to one.
    """
    sound = np.asarray(audio, dtype=np.float32)
    sound = sound[:, None] if sound.ndim == 1 else sound
    if sound.ndim != 2 or not sound.size or not np.isfinite(sound).all():
        raise ValueError(f"audio must be finite, (S,) or (S, C) with S > 0, got shape {np.shape(audio)}")
    if sound.shape[1] > 2:
        sound = sound.mean(axis=1, keepdims=True)
    rate = next((rate for rate in _AAC_RATES if rate >= sample_rate), _AAC_RATES[-1])
    return resample(sound, sample_rate, rate).clip(-1, 1), rate


class SoundTrack:
    """Feeds ``(S, C)`` float32 in [-1, 1], at a rate that AAC has, block by block to the encoder of an open container."""

    def __init__(self, container: av.container.OutputContainer, sound: np.ndarray, rate: int) -> None:
        self.container, self.sound, self.rate = container, sound, rate
        self.layout = "mono" if sound.shape[1] == 1 else "stereo"
        self.stream = container.add_stream("aac", rate=rate, layout=self.layout)
        self.stream.codec_context.bit_rate = (64_000 if rate < 32_000 else 96_000) * sound.shape[1]
        self.stream.codec_context.open()
        self.block = self.stream.codec_context.frame_size or 1024
        self.position = 0

    def write_until(self, seconds: float) -> None:
        """Encode the blocks that begin before ``seconds``."""
        while self.position < min(len(self.sound), seconds * self.rate):
            block = self.sound[self.position : self.position + self.block]
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(block.T), format="fltp", layout=self.layout
            )
            frame.sample_rate, frame.time_base, frame.pts = self.rate, Fraction(1, self.rate), self.position
            self.container.mux(self.stream.encode(frame))
            self.position += len(block)

    def finish(self) -> None:
        """Encode what is left and empty the encoder."""
        self.write_until(float("inf"))
        self.container.mux(self.stream.encode(None))
