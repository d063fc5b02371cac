"""Decoding a sound track: every block of samples at its time, whatever is lost or damaged between."""

import logging
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from datamodules.batches import SAMPLE_RATE
from datamodules.errors import UserError
from datamodules.media.containers import STRICT_DECODING, packets_of

MOST_HOLE = 0.05
"""Seconds that may lie between two blocks of sound that is read strictly."""
MOST_SILENCE = 600.0
"""Seconds of silence that are put in at one place."""
MOST_VALUES = 2**29
"""Of a sound in memory, all channels together: 2 GiB."""
_ANEW = 1.0  # seconds: time stamps that go back by so much begin another recording
_LEAST_JITTER = 0.005  # seconds: many files round time stamps to milliseconds
_MOST_DAMAGED = 0.05  # share of the packets
_log = logging.getLogger(__name__)


class DecodedSound:
    """A sound track, decoded block by block: holes between time stamps are silence, what they say twice is left out.

    A few damaged packets become silence, too, with a warning; with ``strict`` they, what else the decoder would conceal, and
    holes are an error.

    Attributes:
        waveform: ``(S, C)`` float32 as it is stored.
        rate: Samples a second.
        channels: Their names, such as FL or FC; NONE where the file has none.
        start: Time of the first sample on the file's clock, or None.

    Raises:
        UserError: No samples, too many damaged packets, another rate inside the file, an absurd hole, or too much of it.
        av.FFmpegError: With ``strict``: damage.
    """

    def __init__(
        self, container: av.container.InputContainer, track: av.AudioStream, path: Path, strict: bool
    ) -> None:
        self._path, self._strict = path, strict
        self._silence = 0.0  # seconds of holes that were filled
        if strict:
            track.codec_context.options = STRICT_DECODING
        frames = self._frames(container, track)
        first = next(frames, None)
        if first is None:
            raise UserError(f"{path}: holds no samples (length zero); give a file with sound")
        self.rate, self.start = first.sample_rate, first.time
        self.channels = [channel.name for channel in first.layout.channels]
        self._blocks, self._length = [_samples(first)], first.samples
        self._clock, self._end = first.time, _end(first)  # time of sample 0, end of the last block
        for frame in frames:
            self._add(frame)
        self.waveform = np.concatenate(self._blocks)
        self._blocks.clear()  # long sound is large

    def _frames(
        self, container: av.container.InputContainer, track: av.AudioStream
    ) -> Iterator[av.AudioFrame]:
        packets = damaged = 0
        for packet in packets_of(container, track):
            packets += 1
            try:
                frames = packet.decode()
            except av.FFmpegError:
                if self._strict:
                    raise
                damaged += 1
                continue
            yield from frames
        told = f"{damaged} of {packets} packets of its sound are damaged"
        if damaged > max(1, _MOST_DAMAGED * packets):
            raise UserError(f"{self._path}: cannot be read as sound ({told}); get the file again")
        if damaged:
            _log.warning("%s: %s; silence stands in their place", self._path, told)

    def _add(self, frame: av.AudioFrame) -> None:
        if (frame.sample_rate, len(frame.layout.channels)) != (self.rate, len(self.channels)):
            raise UserError(f"{self._path}: rate or channels change inside the file; convert it to wav")
        samples = _samples(frame)
        hole = self._hole_before(frame)
        require_room(self._path, self._length + hole + len(samples), len(self.channels), self.rate)
        if hole > 0:
            self._silence += hole / self.rate
            self._append(np.zeros((hole, len(self.channels)), np.float32))
        self._append(samples[max(0, -hole) :])
        self._end = _end(frame)

    def _append(self, samples: np.ndarray) -> None:
        self._blocks.append(samples)
        self._length += len(samples)

    def _hole_before(self, frame: av.AudioFrame) -> int:
        """Samples that lack before a frame by its time; negative: of the frame that were there already."""
        if frame.time is None or self._clock is None:
            return 0
        if self._strict and self._end is not None and abs(frame.time - self._end) > MOST_HOLE:
            raise self._hole_error(frame, frame.time - self._end)
        hole = frame.time - self._clock - self._length / self.rate
        if hole > MOST_SILENCE - self._silence:
            raise self._hole_error(frame, hole)
        if hole < -_ANEW:
            self._clock += hole
            return 0
        jitter = min(max(0.75 * frame.samples / self.rate, _LEAST_JITTER), MOST_HOLE)
        return 0 if abs(hole) <= jitter else round(hole * self.rate)

    def _hole_error(self, frame: av.AudioFrame, hole: float) -> UserError:
        told = f"its sound has a hole of {hole:.2f} s at {frame.time:.1f} s; get the file again"
        return UserError(f"{self._path}: {told}")


def require_room(path: Path, samples: int, channels: int, rate: int) -> None:
    """UserError where a sound takes too much memory as it is stored, or at 16 kHz; a small file may hold hours of silence."""
    if samples * max(channels, SAMPLE_RATE / rate) > MOST_VALUES:
        told = f"holds over {samples / rate / 60:.0f} minutes of sound in {channels} channels at {rate} Hz"
        raise UserError(f"{path}: {told}, too much at once; cut it, or convert it to mono at 16 kHz")


def _end(frame: av.AudioFrame) -> float | None:
    return None if frame.time is None else frame.time + frame.samples / frame.sample_rate


def _samples(frame: av.AudioFrame) -> np.ndarray:
    """Samples of one decoded frame: ``(S, C)`` float32, integers divided by 2^(bits - 1)."""
    values = frame.to_ndarray()
    values = values.T if frame.format.is_planar else values.reshape(-1, len(frame.layout.channels))
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - 128) / 128
    if values.dtype.kind == "i":
        return (values / 2.0 ** (8 * values.dtype.itemsize - 1)).astype(np.float32)
    return values.astype(np.float32)
