"""Videos that are whole but oddly made: where they begin, how they are shown, what their containers leave out."""

import os
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from av.stream import Disposition

from datamodules.errors import UserError
from datamodules.media import video_index
from datamodules.media.audio import load_audio_native
from datamodules.media.containers import packets_of
from datamodules.media.video import VideoReader, read_video
from tests.datamodules.media.numbered_videos import (
    COUNT,
    GROUPS,
    HEIGHT,
    WIDTH,
    check_starts,
    counted,
    encode,
    numbered,
    numbers_of,
    remux,
)


@pytest.mark.parametrize(
    ("name", "mux"),
    [
        ("fragmented.mp4", {"movflags": "frag_keyframe+empty_moov"}),
        ("no_edit_list.mp4", {"use_editlist": "0"}),
        ("late.mp4", {"output_ts_offset": "2.5"}),
        ("late.ts", {"output_ts_offset": "95442.5"}),  # the clock of MPEG starts anew in it
    ],
)
def test_containers_may_be_written_oddly(name: str, mux: dict[str, str], tmp_path: Path) -> None:
    path = encode(tmp_path / name, "libx264", Fraction(25), GROUPS["libx264"]["open"], counted(), mux)
    assert numbers_of(read_video(path)) == list(range(COUNT))
    check_starts(path, range(COUNT), range(0, COUNT, 5))


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video"])
@pytest.mark.parametrize("suffix", ["mp4", "ts"])
def test_a_recording_may_begin_in_an_open_group_of_pictures(codec: str, suffix: str, tmp_path: Path) -> None:
    """Pictures that lean on what was cut off are not shown; the video begins with the first that can be."""
    whole = encode(tmp_path / f"whole.{suffix}", codec, Fraction(25), GROUPS[codec]["open"], counted())
    with av.open(str(whole)) as container:
        second = [
            n for n, packet in enumerate(container.demux(video=0)) if packet.is_keyframe and packet.size
        ][1]
    path = remux(whole, tmp_path / f"cut.{suffix}", lambda number: number >= second)
    shown = numbers_of(read_video(path))
    assert shown == list(range(shown[0], COUNT))
    assert 10 <= shown[0] <= 13
    check_starts(path, shown, range(0, len(shown), 7))


@pytest.mark.parametrize("cut", [188 * 20, 188 * 40, 188 * 30 + 77])
def test_a_stream_may_begin_anywhere(cut: int, tmp_path: Path) -> None:
    whole = encode(tmp_path / "a.ts", "libx264", Fraction(25), GROUPS["libx264"]["closed"], counted())
    path = tmp_path / "b.ts"
    path.write_bytes(whole.read_bytes()[cut:])
    shown = numbers_of(read_video(path))
    assert shown == list(range(shown[0], COUNT))
    assert shown[0] % 12 == 0
    check_starts(path, shown, range(0, len(shown), 7))


def test_recordings_that_were_joined_byte_by_byte_are_refused(tmp_path: Path) -> None:
    part = encode(tmp_path / "a.ts", "libx264", Fraction(25), GROUPS["libx264"]["closed"], counted())
    (tmp_path / "b.ts").write_bytes(part.read_bytes() * 2)
    with pytest.raises(UserError, match=r"b.ts: its clock goes back by 2\.\d s"):
        VideoReader(tmp_path / "b.ts")


def test_a_track_that_begins_inside_a_file_is_damage() -> None:
    """PyAV may stumble over one that the head of the file does not name."""

    def demux(track: None) -> Iterator[av.Packet]:
        yield av.Packet(b"whole")
        raise IndexError("list index out of range")

    packets = packets_of(SimpleNamespace(demux=demux), None)
    assert bytes(next(packets)) == b"whole"
    with pytest.raises(av.FFmpegError, match="a track begins inside"):
        next(packets)


@pytest.mark.parametrize(
    ("claimed", "rate", "told"),
    [
        (2**31 - 1, 25, "claims to last over 12 hours|cut off after"),
        (2_000_000, 25, "claims to last over 12 hours|cut off after"),
        (2**32 - 1, 100_000, "announces more pictures"),
    ],
)
def test_a_claim_to_last_for_days_takes_no_memory(
    claimed: int, rate: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_index, "_with_empty_chunks", lambda *_: pytest.fail("would take memory"))
    path = encode(tmp_path / "a.avi", "mpeg4", Fraction(25), {}, counted())
    content = bytearray(path.read_bytes())
    place = content.index(b"strh") + 8 + 32  # dwLength of the first track
    content[place : place + 4] = struct.pack("<I", claimed)
    content[place - 12 : place - 4] = struct.pack("<II", 1, rate)  # dwScale and dwRate
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"a.avi: ({told})"):
        VideoReader(path)


def test_a_pipe_is_no_video(tmp_path: Path) -> None:
    """It would be opened several times, and wait for ever."""
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(UserError, match=r"a\.mp4: is a pipe or a device, expected a file with video"):
        VideoReader(tmp_path / "a.mp4")


def test_what_an_edit_list_hides_is_not_shown(film: Path, tmp_path: Path) -> None:
    path = remux(film, tmp_path / "later.mp4", back=17)
    assert numbers_of(read_video(path)) == list(range(17, COUNT))
    check_starts(path, range(17, COUNT), range(0, 40, 3))


def test_pictures_of_varying_rate_are_shown_when_they_are_due(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    ticks = np.cumsum(generator.integers(1, 4, COUNT)) - 1
    pictures = [(int(tick), numbered(number)) for number, tick in enumerate(ticks)]
    path = encode(tmp_path / "a.mkv", "libx264", Fraction(50), GROUPS["libx264"]["open"], pictures)
    reader = VideoReader(path)
    np.testing.assert_allclose(reader.times, (ticks - ticks[0]) / 50, atol=1e-3)
    assert numbers_of(reader.get(range(COUNT))) == list(range(COUNT))
    check_starts(path, range(COUNT), range(0, COUNT, 7))


def test_a_picture_may_be_shown_again(tmp_path: Path) -> None:
    """VP9 repeats a picture by a packet of its own, which holds no more than the picture's place in memory."""
    options = {"g": "24", "b": "2M", "lag-in-frames": "0", "cpu-used": "8"}
    pictures = ((tick, numbered(tick)) for tick in range(0, COUNT, 2))
    once = encode(tmp_path / "once.webm", "libvpx-vp9", Fraction(50), options, pictures)
    path = tmp_path / "twice.webm"
    with av.open(str(once)) as stored, av.open(str(path), "w") as container:
        track = stored.streams.video[0]
        copy = container.add_stream_from_template(track)
        for packet in stored.demux(track):
            if packet.size:
                again = av.Packet(b"\x88\x00")
                again.pts = again.dts = packet.pts + 20
                again.time_base, again.stream, packet.stream = packet.time_base, copy, copy
                container.mux([packet, again])
    shown = [tick - tick % 2 for tick in range(COUNT)]
    reader = VideoReader(path)
    assert numbers_of(reader.frames(range(COUNT))) == shown
    check_starts(path, shown, range(0, COUNT - 3, 7))


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "mjpeg"])
def test_empty_chunks_repeat_the_picture_before_them(codec: str, tmp_path: Path) -> None:
    ticks = [tick for tick in range(COUNT) if tick % 5 != 3 or tick > 50]
    options = {"g": "12", "bf": "0", "b": "4M"}
    path = encode(
        tmp_path / "a.avi", codec, Fraction(25), options, ((tick, numbered(tick)) for tick in ticks)
    )
    shown = [max(tick for tick in ticks if tick <= frame) for frame in range(COUNT)]
    assert numbers_of(read_video(path)) == shown
    check_starts(path, shown, range(0, COUNT, 7))


def test_a_file_of_chunks_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.avi", "mjpeg", Fraction(25), {}, counted())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"cut off after 1\.\d of 2\.6 s"):
        VideoReader(path)


@pytest.mark.parametrize(
    ("codec", "suffix"), [("libx264", "ts"), ("libx265", "ts"), ("libvpx-vp9", "webm"), ("libsvtav1", "webm")]
)
def test_pictures_of_another_size_come_at_the_first_one(codec: str, suffix: str, tmp_path: Path) -> None:
    """Grown ones are scaled down; those of another shape get black bars."""
    sizes = [(HEIGHT, WIDTH), (2 * HEIGHT, 2 * WIDTH), (320, 192)]
    parts = []
    for number, size in enumerate(sizes):
        pictures = ((tick, numbered(20 * number + tick, *size)) for tick in range(20))
        part = tmp_path / f"{number}.{suffix}"
        parts.append(encode(part, codec, Fraction(25), GROUPS[codec]["closed"], pictures))
    path = tmp_path / f"all.{suffix}"
    with av.open(str(path), "w") as container:
        track = None
        for number, part in enumerate(parts):
            with av.open(str(part)) as stored:
                track = track or container.add_stream_from_template(stored.streams.video[0], opaque=True)
                for packet in stored.demux(video=0):
                    if packet.size:
                        shift = int(number / packet.time_base)
                        packet.pts, packet.dts = packet.pts + shift, (packet.dts or 0) + shift
                        packet.stream = track
                        container.mux(packet)
    reader = VideoReader(path)
    frames = reader.get(range(60))
    assert frames.shape == (60, HEIGHT, WIDTH, 3)
    assert numbers_of(frames[:40]) == list(range(40))
    narrow = round(HEIGHT * 192 / 320)
    inside = frames[40:, :, (WIDTH - narrow) // 2 : (WIDTH + narrow) // 2]
    assert numbers_of(inside) == list(range(40, 60))
    assert not frames[40:, :, : (WIDTH - narrow) // 2 - 2].any()
    assert numbers_of(reader.get([30, 2])) == [30, 2]


ONE = 1 << 16
TURNS: dict[str, tuple[tuple[int, int, int, int], Callable[[np.ndarray], np.ndarray]]] = {
    # a, b, c, d of the display matrix -> what is done to the pixels
    "upright": ((ONE, 0, 0, ONE), lambda image: image),
    "clockwise": ((0, ONE, -ONE, 0), lambda image: np.rot90(image, -1)),
    "upside_down": ((-ONE, 0, 0, -ONE), lambda image: np.rot90(image, 2)),
    "counterclockwise": ((0, -ONE, ONE, 0), lambda image: np.rot90(image)),
    "mirrored": ((-ONE, 0, 0, ONE), np.fliplr),
    "flipped": ((ONE, 0, 0, -ONE), np.flipud),
    "transposed": ((0, ONE, ONE, 0), lambda image: image.transpose(1, 0, 2)),
    "other_diagonal": ((0, -ONE, -ONE, 0), lambda image: np.rot90(image, 2).transpose(1, 0, 2)),
    "two_degrees": ((65496, 2287, -2287, 65496), lambda image: image),
    "twice": ((2 * ONE, 0, 0, 2 * ONE), lambda image: image),
    "nothing": ((0, 0, 0, 0), lambda image: image),
}


def with_matrix(source: Path, target: Path, values: tuple[int, int, int, int]) -> Path:
    data = bytearray(source.read_bytes())
    place = data.index(b"tkhd") + 44
    a, b, c, d = values
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    target.write_bytes(data)
    return target


@pytest.mark.parametrize("name", TURNS)
def test_pictures_are_turned_and_mirrored_as_the_file_asks_for(name: str, film: Path, tmp_path: Path) -> None:
    values, turn = TURNS[name]
    reader = VideoReader(with_matrix(film, tmp_path / "turned.mp4", values))
    stored = VideoReader(film).get([5, 40])
    wanted = [turn(image) for image in stored]
    np.testing.assert_array_equal(reader.get([5, 40]), wanted)
    assert (reader.info.height, reader.info.width) == wanted[0].shape[:2]


def test_an_odd_angle_is_refused(film: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="odd angle"):
        VideoReader(with_matrix(film, tmp_path / "a.mp4", (46341, 46341, -46341, 46341)))


@pytest.mark.parametrize(
    ("shape", "width"),
    [("4/3", 213), ("8/9", 142), ("1280/1281", WIDTH), ("1/1", WIDTH), ("1/50", WIDTH), ("0/1", WIDTH)],
)
def test_pixels_are_square(shape: str, width: int, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(shape)
        for tick, image in counted(10):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    reader = VideoReader(path)
    assert (reader.info.height, reader.info.width) == (HEIGHT, width)
    frames = reader.get(range(10))
    assert frames.shape == (10, HEIGHT, width, 3)
    assert numbers_of(frames) == list(range(10))


@pytest.mark.parametrize(("default", "shown"), [(None, 100), (0, 100), (1, 500)])
def test_the_default_track_is_read(default: int | None, shown: int, tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        tracks = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for number, track in enumerate(tracks):
            track.height, track.width, track.pix_fmt = HEIGHT, WIDTH, "yuv420p"
            track.disposition = Disposition.default if number == default else Disposition(0)
        for number, track in zip((100, 500), tracks, strict=True):
            for tick in range(10):
                frame = av.VideoFrame.from_ndarray(numbered(number + tick), format="rgb24")
                frame.pts = tick
                container.mux(track.encode(frame))
            container.mux(track.encode(None))
    assert numbers_of(read_video(path)) == list(range(shown, shown + 10))


def test_sound_is_on_the_clock_of_the_first_picture_that_is_shown(tmp_path: Path) -> None:
    """A recording begins in an open group of pictures, its sound earlier: a click is heard with its picture."""
    whole = encode(tmp_path / "a.mkv", "libx265", Fraction(25), GROUPS["libx265"]["open"], counted())
    path, picture = tmp_path / "cut.mkv", 30
    with av.open(str(whole)) as stored, av.open(str(path), "w") as container:
        track = stored.streams.video[0]
        copy = container.add_stream_from_template(track, opaque=True)
        sound = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        packets = [packet for packet in stored.demux(track) if packet.size]
        second = [number for number, packet in enumerate(packets) if packet.is_keyframe][1]
        samples = np.zeros((1, 2 * 16_000), np.int16)
        samples[0, picture * 640] = 30_000
        block = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        block.sample_rate, block.pts = 16_000, 0
        container.mux(sound.encode(block))
        for packet in packets[second:]:
            packet.stream = copy
            container.mux(packet)
    shown = numbers_of(read_video(path))
    assert min(packet.pts for packet in packets[second:]) < packets[second].pts  # some lean on what is gone
    waveform, _ = load_audio_native(path)
    assert np.abs(waveform[:, 0]).argmax() == shown.index(picture) * 640
