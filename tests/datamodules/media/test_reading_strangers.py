"""Whatever strangers' videos are made of, every frame shows its own picture: in a row, at random and at 25 fps.

Pictures carry their number as ten blocks in a row, dark or bright, the lowest bit left.
"""

import itertools
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from datamodules.errors import UserError
from datamodules.media import video_decoding
from datamodules.media.audio import load_audio_native
from datamodules.media.containers import VIDEO_SUFFIXES
from datamodules.media.video import VideoReader, read_video, write_video

HEIGHT, WIDTH, COUNT = 96, 160, 64
BITS = 10

PHOTO, FILM, NTSC = Fraction(15), Fraction(24000, 1001), Fraction(30000, 1001)
RATES = (Fraction(25), Fraction(30), Fraction(60), NTSC, FILM, PHOTO)

X264, X265 = "x264-params", "x265-params"
GROUPS: dict[str, dict[str, dict[str, str]]] = {
    # codec -> kind of group of pictures -> options of its encoder
    "libx264": {
        "open": {"g": "12", "bf": "3", X264: "open-gop=1:scenecut=0"},
        "closed": {"g": "12", "bf": "3", X264: "open-gop=0:scenecut=0"},
        "refresh": {"g": "12", "bf": "0", X264: "intra-refresh=1"},
        "single": {"g": "600", "bf": "2", X264: "scenecut=0"},
    },
    "libx265": {
        "open": {"preset": "veryfast", X265: "keyint=12:min-keyint=12:bframes=4:open-gop=1:log-level=none"},
        "closed": {"preset": "veryfast", X265: "keyint=12:min-keyint=12:open-gop=0:log-level=none"},
    },
    **{
        codec: {
            "open": {"g": "12", "bf": "2", "b": "4M"},
            "closed": {"g": "12", "bf": "2", "flags": "+cgop", "b": "4M", "sc_threshold": "1000000000"},
            "intra": {"g": "1", "b": "4M"},
        }
        for codec in ("mpeg1video", "mpeg2video", "mpeg4")
    },
    **{
        codec: {"closed": {"g": "12", "b": "4M"}, "single": {"g": "600", "b": "4M"}}
        for codec in ("wmv2", "msmpeg4", "flv")
    },
    "libvpx": {"closed": {"g": "12", "b": "2M", "auto-alt-ref": "1", "lag-in-frames": "10", "cpu-used": "8"}},
    "libvpx-vp9": {"closed": {"g": "12", "b": "2M", "lag-in-frames": "12", "cpu-used": "8"}},
    "libsvtav1": {"closed": {"g": "12", "crf": "15", "preset": "8"}},
    **{codec: {"intra": {}} for codec in ("mjpeg", "prores", "ffv1", "qtrle")},
}
CONTAINERS = {
    "libx264": ("mp4", "mov", "mkv", "ts", "m2ts", "flv", "avi", "3gp", "nut", "h264"),
    "libx265": ("mp4", "mkv", "ts", "hevc"),
    "mpeg1video": ("mpg", "m1v"),
    "mpeg2video": ("mpg", "vob", "ts", "mkv", "avi", "mxf", "m2v"),
    "mpeg4": ("mp4", "avi", "mkv"),
    "wmv2": ("wmv", "asf", "avi"),
    "msmpeg4": ("avi",),
    "flv": ("flv",),
    "libvpx": ("webm", "ogg", "avi", "ivf"),
    "libvpx-vp9": ("webm", "mp4", "ivf"),
    "libsvtav1": ("mp4", "webm"),
    "mjpeg": ("mov", "avi"),
    "prores": ("mov",),
    "ffv1": ("mkv", "avi"),
    "qtrle": ("mov",),
}
FORMATS = {"mpg": "mpeg", "m2ts": "mpegts", "m2v": "mpeg2video", "m1v": "mpeg1video"}
PIXELS = {"mjpeg": "yuvj420p", "prores": "yuv422p10le", "qtrle": "rgb24"}


def exists(codec: str, container: str, rate: Fraction, group: str) -> bool:
    """Whether there is such a video: MPEG-1 and 2 know no 15 fps, and FFmpeg numbers the pictures of a program stream badly
    where several are smaller than one of its packs."""
    if codec in ("mpeg1video", "mpeg2video"):
        return rate != PHOTO and not (container in ("mpg", "vob") and group == "intra")
    return True


def numbered(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Picture ``(H, W, 3)`` uint8; its corners tell how it is turned: the upper left one is red, the upper right green."""
    image = np.full((height, width, 3), 96, np.uint8)
    edges = np.linspace(0, width, BITS + 1).round().astype(int)
    for bit, (left, right) in enumerate(itertools.pairwise(edges)):
        image[height // 4 : -height // 4, left:right] = 235 if number >> bit & 1 else 20
    image[: height // 4, : width // 4] = (200, 30, 30)
    image[: height // 4, -width // 4 :] = (30, 180, 30)
    return image


def number_of(picture: np.ndarray) -> int:
    height, width = picture.shape[:2]
    row = picture[height // 2 - 3 : height // 2 + 3].mean((0, 2))
    return sum(int(row[int((bit + 0.5) * width / BITS)] > 128) << bit for bit in range(BITS))


def numbers_of(pictures: Iterable[np.ndarray]) -> list[int]:
    return [number_of(picture) for picture in pictures]


def encode(
    path: Path,
    codec: str,
    rate: Fraction,
    options: dict[str, str],
    pictures: Iterable[tuple[int, np.ndarray]],
    mux: dict[str, str] | None = None,
) -> Path:
    """Write pictures at their ticks of 1 / rate."""
    kind = FORMATS.get(path.suffix[1:])
    with av.open(str(path), "w", format=kind, options=mux or {}) as container:
        stream = None
        for tick, image in pictures:
            if stream is None:
                stream = container.add_stream(codec, rate=rate, options=options)
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = PIXELS.get(codec, "yuv420p")
                stream.codec_context.thread_count = 1
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = tick
            container.mux(stream.encode(frame))
        assert stream is not None
        container.mux(stream.encode(None))
    return path


def counted(count: int = COUNT) -> Iterator[tuple[int, np.ndarray]]:
    return ((number, numbered(number)) for number in range(count))


def right_at_25(rate: Fraction, shown: list[int]) -> bool:
    """Whether each of the numbers shown at k / 25 s is a nearest one, up to a container's rounding to milliseconds."""
    due = round(COUNT / rate * 25)
    distances = [abs(number / rate - Fraction(k, 25)) for k, number in enumerate(shown)]
    least = [min(abs(n / rate - Fraction(k, 25)) for n in range(COUNT)) for k in range(due)]
    slack = Fraction(1, 500)
    return len(shown) == due and all(a <= b + slack for a, b in zip(distances, least, strict=True))


ALL = [
    (codec, container, rate, group)
    for codec, containers in CONTAINERS.items()
    for container, rate, group in itertools.product(containers, RATES, GROUPS[codec])
    if exists(codec, container, rate, group)
]


def _few() -> Iterator[tuple[str, str, Fraction, str]]:
    """Every codec in every container once, through rates and groups of pictures in turn."""
    for turn, (_, cases) in enumerate(itertools.groupby(ALL, lambda case: case[:2])):
        every = list(cases)
        yield every[turn * 7 % len(every)]


FEW = list(_few())


@pytest.mark.parametrize(
    ("codec", "container", "rate", "group"),
    [pytest.param(*case, marks=() if case in FEW else pytest.mark.slow) for case in ALL],
)
def test_every_frame_shows_its_own_picture(
    tmp_path: Path, codec: str, container: str, rate: Fraction, group: str
) -> None:
    path = encode(tmp_path / f"a.{container}", codec, rate, GROUPS[codec][group], counted())
    reader = VideoReader(path)
    assert len(reader) == COUNT
    played = list(reader.frames(range(COUNT)))
    assert numbers_of(played) == list(range(COUNT))
    assert right_at_25(rate, numbers_of(read_video(path)))
    generator = np.random.default_rng(0)
    for wanted in [*generator.integers(0, COUNT, (8, 1)), *generator.integers(0, COUNT, (4, 3))]:
        np.testing.assert_array_equal(reader.get(wanted), [played[index] for index in wanted])
    check_starts(path, range(COUNT), (0, 11, 12, 13, 23, COUNT - 3))


def check_starts(path: Path, numbers: Sequence[int], starts: Iterable[int]) -> None:
    """Strict reading from anywhere gives the pictures that were stored."""
    reader = VideoReader(path, strict=True)
    for start in starts:
        assert numbers_of(reader.frames(range(start, min(start + 3, len(reader))))) == list(
            numbers[start : start + 3]
        )


def test_videos_in_a_folder_are_known_by_their_suffix() -> None:
    bare = {"h264", "hevc", "m1v", "m2v", "ivf", "nut", "ogg"}  # ogg is rather sound
    assert {f".{name}" for names in CONTAINERS.values() for name in names if name not in bare} <= set(
        VIDEO_SUFFIXES
    )


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """H.264 with open groups of pictures at 25 fps."""
    return encode(tmp_path / "film.mp4", "libx264", Fraction(25), GROUPS["libx264"]["open"], counted())


@pytest.mark.parametrize("indices", [range(COUNT), [0, 0, 3, 3, 3, 7], range(41, 60), [COUNT - 1], []])
def test_frames_in_order_are_those_of_random_access(film: Path, indices: Sequence[int]) -> None:
    reader = VideoReader(film)
    played = list(reader.frames(indices))
    np.testing.assert_array_equal(np.array(played).reshape(-1, HEIGHT, WIDTH, 3), reader.get(indices))
    assert all(
        (a is b) == (i == j) for (a, i), (b, j) in itertools.pairwise(zip(played, indices, strict=True))
    )
    assert all(played[i] is played[i + 1] for i in range(len(played) - 1) if indices[i] == indices[i + 1])


def test_wrong_indices_are_refused(film: Path) -> None:
    reader = VideoReader(film)
    with pytest.raises(ValueError, match="in order"):
        list(reader.frames([3, 2]))
    for index in (-1, COUNT):
        with pytest.raises(IndexError):
            list(reader.frames([index]))


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


def remux(
    source: Path, target: Path, keep: Callable[[int], bool] = lambda number: True, back: int = 0
) -> Path:
    """Copy the packets whose number ``keep`` likes, ``back`` frames at 25 fps earlier."""
    unchanged = {"avoid_negative_ts": "disabled"} if back else {}
    with av.open(str(source)) as stored, av.open(str(target), "w", options=unchanged) as container:
        track = stored.streams.video[0]
        copy = container.add_stream_from_template(track, opaque=True)
        for number, packet in enumerate(stored.demux(track)):
            if packet.size and keep(number):
                shift = int(Fraction(back, 25) / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                container.mux(packet)
    return target


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


def test_damage_that_players_conceal_is_refused_where_reading_is_strict(tmp_path: Path) -> None:
    path = tmp_path / "hurt.mp4"
    ground = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    write_video(path, [np.roll(ground, shift, axis=1) for shift in range(50)])
    data = bytearray(path.read_bytes())
    inside_first_picture = data.index(b"mdat") + 3000
    for place in range(5):
        data[inside_first_picture + place] ^= 0x55
    path.write_bytes(data)
    assert len(read_video(path)) == 50
    with pytest.raises(UserError, match="damaged video"):
        list(VideoReader(path, strict=True).frames(range(50)))


def test_pictures_that_others_lean_on_are_missed_where_reading_is_strict(film: Path, tmp_path: Path) -> None:
    told = []
    for lost in range(1, 12):
        path = remux(film, tmp_path / "lost.mkv", lost.__ne__)
        assert len(read_video(path)) == COUNT
        try:
            list(VideoReader(path, strict=True).frames(range(COUNT - 1)))
        except UserError as error:
            told.append(str(error))
    assert told
    assert all(re.search(r"damaged video at 0\.\d s", one) for one in told)


def test_frames_that_follow_one_another_are_decoded_once_and_far_ones_by_a_jump(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", Fraction(25), GROUPS["libx264"]["closed"], counted(400))
    decoded, number = [], video_decoding._numbered
    monkeypatch.setattr(video_decoding, "_numbered", lambda picture: decoded.append(1) or number(picture))
    reader = VideoReader(path)
    decoded.clear()
    for start in range(0, 400, 25):
        reader.get(range(start, start + 25))
    assert len(decoded) <= 400
    for frame in (390, 10, 200):
        decoded.clear()
        assert numbers_of(reader.get([frame])) == [frame]
        assert len(decoded) < 12 + 20


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


def nearest(stored: int, seconds: float) -> list[int]:
    """Numbers at 25 fps of a pattern of ``stored`` fps."""
    return [min(range(round(seconds * stored)), key=lambda n: abs(25 * n - k * stored)) for k in range(300)]


def dropped(path: Path) -> None:
    """Every fifth picture is missing, at 30 fps."""
    reader = VideoReader(path)
    shown = numbers_of(reader.get(range(len(reader))))
    assert shown[:12] == [0, 1, 2, 2, 3, 4, 5, 6, 7, 7, 8, 9]
    assert (len(shown), shown[-1]) == (120, 99)
    assert len(read_video(path)) == 100


def mirrored(path: Path) -> None:
    frames = read_video(path)
    assert numbers_of(frames[:, :, ::-1]) == list(range(100))
    green_left, red_right = frames[0, 20, 20], frames[0, 20, -20]
    assert green_left.argmax() == 1
    assert red_right.argmax() == 0


def of_one_size(path: Path) -> None:
    frames = read_video(path).astype(np.int16)
    assert frames.shape == (81, 256, 256, 3)
    assert np.abs(np.diff(frames, axis=0)).mean((1, 2, 3)).max() < 10  # a face that goes on speaking


def fading(path: Path) -> None:
    brightness = read_video(path).mean((1, 2, 3))
    assert len(brightness) == 25
    assert brightness[0] < 1
    assert (np.diff(brightness[:5]) > 5).all()


def heard(path: Path) -> None:
    assert np.abs(load_audio_native(path)[0]).max() > 0.5


AWKWARD: dict[str, Callable[[Path], None] | list[int] | tuple[int, ...]] = {
    # what is checked, or the numbers at 25 fps, or the shape of what is read
    "f01_h264_opengop_30fps.mkv": nearest(30, 12),
    "f01_hevc_opengop_60fps.mp4": nearest(60, 12),
    "f01_mpeg2_30fps.mpg": nearest(30, 12),
    "f01_mpeg4_bframes_30fps.mp4": nearest(30, 12),
    "f02_h264_25fps.ts": list(range(300)),
    "f03_mirror_matrix_pattern.mp4": mirrored,
    "f04_sar43_face.mp4": (82, 512, 512, 3),
    "f06_two_audio_default_second.mkv": heard,
    "f09_dropped_frames.avi": dropped,
    "f10_h264_size_change.mkv": of_one_size,
    "f14_fade_from_black.mp4": fading,
}


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_files(shared: Path, name: str) -> None:
    path = shared / "data/awkward" / name
    if not path.is_file():
        pytest.skip(f"needs {name} in the folder of real clips")
    wanted = AWKWARD[name]
    if callable(wanted):
        wanted(path)
    elif isinstance(wanted, tuple):
        assert read_video(path).shape == wanted
    else:
        assert numbers_of(read_video(path)) == wanted
        check_starts(path, numbers_of(VideoReader(path).frames(range(250))), range(0, 240, 40))
