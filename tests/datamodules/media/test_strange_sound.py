"""Sound from strangers: holes, damage, lead-ins, channels and pipes; what is heard stays at its time and its level."""

import os
import shutil
import threading
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from datamodules.errors import UserError
from datamodules.media import sound_decoding
from datamodules.media.audio import load_audio, load_audio_native
from datamodules.media.channels import fold_channels

RATE = 48_000
SECONDS = 4
BEEPS = (0.5, 1.5, 2.5, 3.5)
FORMATS = {
    "libopus": "flt",
    "aac": "fltp",
    "libmp3lame": "fltp",
    "flac": "s16",
    "pcm_s16le": "s16",
    "ac3": "fltp",
}


def beeping(times: Iterable[float] = BEEPS, rate: int = RATE) -> np.ndarray:
    """A tenth of a second of 1 kHz at each time, ``(S,)``."""
    sound = np.zeros(SECONDS * rate, np.float32)
    for start in times:
        at = round(start * rate)
        sound[at : at + rate // 10] = 0.5 * np.sin(2 * np.pi * 1000 / rate * np.arange(rate // 10))
    return sound


def heard(path: Path, strict: bool = False) -> list[float]:
    """Times in seconds at which beeps begin."""
    loud = np.flatnonzero(np.abs(load_audio(path, strict)) > 0.1)
    return [loud[0] / 16_000, *(loud[1:][np.diff(loud) > 800] / 16_000)]


def near(times: Iterable[float]) -> object:
    return pytest.approx(list(times), abs=0.0025)


def encoded(
    path: Path,
    sound: np.ndarray,
    codec: str,
    change: Callable[[int, av.Packet], bytes | None] = lambda number, packet: bytes(packet),
    layout: str = "mono",
    clock: Callable[[int], int] = lambda sample: sample,
    late_pictures: int | None = None,
) -> Path:
    """Write sound ``(S,)`` or ``(S, C)``: packets as ``change`` gives them (None: left out), samples timed by ``clock``.

    With ``late_pictures`` black pictures begin so many milliseconds after the sound.
    """
    sound = sound.reshape(len(sound), -1).T
    with av.open(str(path), "w") as container:
        film = None
        if late_pictures is not None:
            film = container.add_stream("mpeg4", rate=25)
            film.width = film.height = 32
            film.pix_fmt, film.codec_context.time_base = "yuv420p", Fraction(1, 1000)
        track = container.add_stream(codec, rate=RATE, layout=layout)
        block = track.codec_context.frame_size or 1024
        packets: list[av.Packet] = []
        for start in range(0, sound.shape[1], block):
            values = sound[:, start : start + block]
            if FORMATS[codec] == "s16":
                values = (values.T.reshape(1, -1) * 32767).astype(np.int16)
            elif FORMATS[codec] == "flt":
                values = values.T.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(values), FORMATS[codec], layout)
            frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), clock(start)
            packets += track.encode(frame)
        packets += track.encode(None)
        if film is not None:
            for number in range(SECONDS * 25):
                picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
                picture.time_base, picture.pts = Fraction(1, 1000), late_pictures + 40 * number
                packets += film.encode(picture)
            packets += film.encode(None)
        for number, packet in enumerate(sorted(packets, key=lambda one: one.dts * one.time_base)):
            content = change(number, packet) if packet.stream is track else bytes(packet)
            if content is None:
                continue
            written = av.Packet(content)
            written.stream, written.time_base = packet.stream, packet.time_base
            written.pts, written.dts, written.duration = packet.pts, packet.dts, packet.duration
            container.mux(written)
    return path


def without(first: float, end: float) -> Callable[[int, av.Packet], bytes | None]:
    """Leaves packets between two times out."""
    return lambda number, packet: None if first <= packet.pts * packet.time_base < end else bytes(packet)


def spoilt(numbers: Iterable[int]) -> Callable[[int, av.Packet], bytes | None]:
    """Makes the head of some packets one that no decoder accepts, but for that of MP3, by which packets are found."""
    wrong = set(numbers)

    def change(number: int, packet: av.Packet) -> bytes:
        content = bytes(packet)
        head = content[:4] if packet.stream.codec_context.name == "libmp3lame" else b""
        return head + bytes(len(content) - len(head)).replace(b"\0", b"\xaa") if number in wrong else content

    return change


AWKWARD = {
    "f06_two_audio_default_second.mkv": BEEPS,
    "f08_sound_gap.webm": (0.5, 2.5, 3.5),
    "f12_id3_in_middle.mp3": BEEPS,
    "f12_one_bad_frame.m4a": BEEPS,
    "f17_opus_7ms.mkv": BEEPS,
    "f18_antiphase.wav": BEEPS,
}


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_files(shared: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    path = shared / "data/awkward" / name
    if not path.exists():
        pytest.skip(f"needs {path}")
    assert heard(path) == near(AWKWARD[name])
    assert len(caplog.messages) == (1 if name[:3] in ("f12", "f18") else 0)
    if name[:3] in ("f08", "f12"):
        with pytest.raises(UserError):
            load_audio(path, strict=True)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.webm", "libopus"), ("a.mkv", "libopus"), ("a.mp4", "libopus"), ("a.mkv", "aac"),
        ("a.mp4", "aac"), ("a.ts", "aac"), ("a.mkv", "libmp3lame"), ("a.mkv", "pcm_s16le"), ("a.mkv", "flac"),
        ("a.flv", "aac"), ("a.mkv", "ac3"),
    ],
)  # fmt: skip
def test_a_hole_is_silence(tmp_path: Path, name: str, codec: str) -> None:
    whole = encoded(tmp_path / f"whole_{name}", beeping(), codec)
    with_hole = encoded(tmp_path / name, beeping(), codec, without(0.7, 2.2))
    times = heard(whole)
    assert times == pytest.approx(BEEPS, abs=0.06)  # not every container knows the lead-in of its encoder
    assert heard(with_hole) == near([times[0], *times[2:]])
    with pytest.raises(UserError, match=r"a hole of 1\.\d+ s at 2\.\d s"):
        load_audio(with_hole, strict=True)
    one_lost = encoded(tmp_path / f"one_{name}", beeping(), codec, without(1.0, 1.02))
    assert heard(one_lost) == near(times)


def test_time_stamps_that_jitter_cut_nothing(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.4, 0.4, SECONDS * RATE).astype(np.float32)
    shaken = encoded(
        tmp_path / "a.mkv", noise, "flac", clock=lambda sample: sample + 480 * (sample // 4608 % 2)
    )
    np.testing.assert_allclose(load_audio_native(shaken)[0][:, 0], noise, atol=1e-4)


def test_a_clock_that_runs_slow_is_followed(tmp_path: Path) -> None:
    slow = encoded(tmp_path / "a.mkv", beeping(), "pcm_s16le", clock=lambda sample: round(sample * 0.98))
    assert heard(slow) == pytest.approx([0.98 * time for time in BEEPS], abs=0.02)


def test_recordings_that_were_joined_follow_each_other(tmp_path: Path) -> None:
    part = encoded(tmp_path / "part.ts", beeping(), "aac")
    (tmp_path / "joined.ts").write_bytes(part.read_bytes() * 2)
    times, length = heard(part), len(load_audio(part)) / 16_000
    assert heard(tmp_path / "joined.ts") == pytest.approx(
        [*times, *(length + one for one in times)], abs=0.05
    )


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "aac"), ("a.m4a", "aac"), ("a.mp3", "libmp3lame")])
def test_damage(tmp_path: Path, name: str, codec: str, caplog: pytest.LogCaptureFixture) -> None:
    whole = heard(encoded(tmp_path / name, beeping(), codec))
    few = encoded(tmp_path / f"few_{name}", beeping(), codec, spoilt((40, 90)))
    assert heard(few) == near(whole)
    assert ["silence stands in their place" in one for one in caplog.messages] == [True]
    with pytest.raises(UserError):
        load_audio(few, strict=True)
    many = encoded(tmp_path / f"many_{name}", beeping(), codec, spoilt(range(0, 190, 2)))
    with pytest.raises(UserError, match="packets of its sound are damaged"):
        load_audio(many)


def test_the_lead_in_of_opus_is_no_shift(tmp_path: Path) -> None:
    for late in (0, 7, 14):
        together = encoded(tmp_path / f"{late}.mkv", beeping(), "libopus", late_pictures=late)
        assert heard(together) == near(BEEPS)
    true_shift = encoded(tmp_path / "late.mkv", beeping(), "libopus", late_pictures=100)
    assert heard(true_shift) == near(time - 0.1 for time in BEEPS)


@pytest.mark.parametrize(
    ("layout", "spoken", "level"),
    [
        ("5.1", [2], 1), ("5.1", [0, 1], 1), ("7.1", [2], 1), ("5.0", [2], 1), ("7.1", [0, 1], 1), ("quad", [0, 1], 1),
        ("5.1", [3], 0), ("5.1", [0], 0.5), ("7.1", [6, 7], 0.707), ("6.1", [4], 0.354),
    ],
)  # fmt: skip
def test_speech_keeps_its_level_in_many_channels(layout: str, spoken: list[int], level: float) -> None:
    names = [channel.name for channel in av.AudioLayout(layout).channels]
    waveform = np.zeros((1000, len(names)), np.float32)
    waveform[:, spoken] = 0.4
    folded = fold_channels(waveform, names)
    assert folded.shape == (1000, 2)
    assert folded.mean() == pytest.approx(0.4 * level, abs=1e-3)
    unnamed = fold_channels(waveform, ["NONE"] * len(names))
    if layout in ("5.1", "7.1"):
        np.testing.assert_array_equal(unnamed, folded)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.flac", "flac"), ("a.mkv", "pcm_s16le"), ("a.m4a", "aac"), ("a.mkv", "ac3")]
)
def test_surround_files(tmp_path: Path, name: str, codec: str) -> None:
    surround = np.zeros((SECONDS * RATE, 6), np.float32)
    surround[:, 2] = beeping()
    path = encoded(tmp_path / name, surround, codec, layout="5.1" if codec != "ac3" else "5.1(side)")
    assert load_audio_native(path)[0].shape[1] == 2
    assert np.abs(load_audio(path)).max() == pytest.approx(0.5, abs=0.05)
    assert heard(path) == pytest.approx(BEEPS, abs=0.06)


def test_what_is_too_loud_together_is_scaled_as_a_whole() -> None:
    wave = np.sin(np.arange(1000) / 10).astype(np.float32)[:, None]
    folded = fold_channels(np.repeat(wave, 6, axis=1), ["FL", "FR", "FC", "LFE", "BL", "BR"])
    np.testing.assert_allclose(folded, np.repeat(wave / np.abs(wave).max(), 2, axis=1), atol=1e-6)


@pytest.mark.parametrize(
    ("right", "kept"),
    [(-1.0, 1.0), (-0.8, 1.0), (-1.25, -1.25), (1.0, 1.0), (0.0, 0.5), (-0.2, 0.4)],
)
def test_channels_in_opposite_phase(
    tmp_path: Path, right: float, kept: float, caplog: pytest.LogCaptureFixture
) -> None:
    left = beeping(rate=16_000)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right * left], 1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav"), kept * left, atol=1e-6)
    assert ["opposite phase" in one for one in caplog.messages] == ([True] if abs(kept) >= 1 > right else [])


def test_channels_in_opposite_phase_in_parts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Speech keeps its level before, in and after these parts."""
    rate, turns = 16_000, (3.1, 5.4, 9.0, 9.7)  # seconds at which the right channel turns over
    speech = 0.3 * np.sin(2 * np.pi * 200 / rate * np.arange(12 * rate)).astype(np.float32)
    sign = (-1.0) ** np.searchsorted(turns, np.arange(len(speech)) / rate, side="right")
    soundfile.write(tmp_path / "a.wav", np.stack([speech, sign * speech], 1), rate, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav"), speech, atol=1e-6)
    [told] = caplog.messages
    assert "in opposite phase in 2.5 of 12.0 s" in told


def test_silence_and_stereo_are_not_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for sound in (np.zeros((16_000, 2)), np.random.default_rng(0).uniform(-0.5, 0.5, (16_000, 2))):
        soundfile.write(tmp_path / "a.wav", sound, 16_000, subtype="FLOAT")
        np.testing.assert_allclose(load_audio(tmp_path / "a.wav"), sound.mean(axis=1), atol=1e-6)
    assert not caplog.messages


@pytest.mark.parametrize(
    ("name", "codec"), [("a.wav", "pcm_s16le"), ("a.mp3", "libmp3lame"), ("a.m4a", "aac")]
)
def test_a_pipe_is_read_as_its_file(tmp_path: Path, name: str, codec: str) -> None:
    file = encoded(tmp_path / name, beeping(), codec)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def feed(path: Path) -> None:
        with path.open("rb") as source, pipe.open("wb") as sink:
            shutil.copyfileobj(source, sink)

    (tmp_path / "empty").touch()
    for path in (file, tmp_path / "empty"):
        feeder = threading.Thread(target=feed, args=(path,), daemon=True)
        feeder.start()
        if path == file:
            np.testing.assert_array_equal(load_audio_native(pipe)[0], load_audio_native(file)[0])
        else:
            with pytest.raises(UserError, match=r"pipe: nothing came out"):
                load_audio_native(pipe)
        feeder.join()


def test_tracks_of_unknown_codecs_are_passed_over(tmp_path: Path) -> None:
    film = encoded(tmp_path / "a.mkv", beeping(), "libopus", late_pictures=100)
    (tmp_path / "b.mkv").write_bytes(film.read_bytes().replace(b"V_MPEG4/", b"V_NEVER/"))
    assert heard(tmp_path / "b.mkv") == near(BEEPS)  # no pictures to be late for
    (tmp_path / "c.mkv").write_bytes(film.read_bytes().replace(b"A_OPUS", b"A_EVER"))
    with pytest.raises(UserError, match="no sound track"):
        load_audio(tmp_path / "c.mkv")


@pytest.mark.parametrize(
    ("kind", "cut", "told"), [("wav", True, 1), ("aiff", True, 1), ("wav", False, 0), ("streamed", False, 0)]
)
def test_sound_that_lacks_its_end_is_told(tmp_path: Path, kind: str, cut: bool, told: int, caplog) -> None:
    path = tmp_path / ("a.aiff" if kind == "aiff" else "a.wav")
    soundfile.write(path, 0.1 * np.sin(np.arange(48_000) / 20), 16_000)
    stored = bytearray(path.read_bytes())
    if kind == "streamed":  # by FFmpeg into a pipe
        stored[40:44] = b"\xff" * 4
    path.write_bytes(stored[: len(stored) // 2] if cut else stored)
    assert len(load_audio_native(path)[0]) == pytest.approx(24_000 if cut else 48_000, abs=50)
    assert ["holds 1.5 s of sound, its header announces 3.0 s" in one for one in caplog.messages] == [
        True
    ] * told


def test_sound_takes_so_much_memory_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is stored, at 16 kHz, and with the silence before it; a file of little may hold much of it."""
    slow, wide, late = tmp_path / "slow.wav", tmp_path / "wide.flac", tmp_path / "late.mkv"
    soundfile.write(slow, np.zeros(30_000), 8_000)
    soundfile.write(wide, np.zeros((16_000, 8)), 16_000)
    encoded(late, beeping(), "flac", clock=lambda sample: sample + 3 * RATE, late_pictures=0)
    for path, most in ((slow, 50_000), (wide, 100_000), (late, 300_000)):
        monkeypatch.setattr(sound_decoding, "MOST_VALUES", 2**29)
        load_audio(path)
        monkeypatch.setattr(sound_decoding, "MOST_VALUES", most)
        with pytest.raises(UserError, match=r"minutes of sound .* too much"):
            load_audio(path)
