"""Whatever strangers' videos are made of, every frame shows its own picture: in a row, at random and at 25 fps."""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import UserError
from datamodules.media import video_decoding
from datamodules.media.audio import load_audio_native
from datamodules.media.suffixes import VIDEO_SUFFIXES
from datamodules.media.video import VideoReader, read_video, write_video
from tests.datamodules.media.numbered_videos import (
    CONTAINERS,
    COUNT,
    GROUPS,
    HEIGHT,
    PHOTO,
    RATES,
    WIDTH,
    check_starts,
    counted,
    encode,
    numbers_of,
    remux,
    shredded,
)


def exists(codec: str, container: str, rate: Fraction, group: str) -> bool:
    """Whether there is such a video: MPEG-1 and 2 know no 15 fps, and FFmpeg numbers the pictures of a program stream badly
    where several are smaller than one of its packs."""
    if codec in ("mpeg1video", "mpeg2video"):
        return rate != PHOTO and not (container in ("mpg", "vob") and group == "intra")
    return True


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
    assert not reader.warn_of_damage()
    check_starts(path, range(COUNT), (0, 11, 12, 13, 23, COUNT - 3))


def test_videos_in_a_folder_are_known_by_their_suffix() -> None:
    bare = {"h264", "hevc", "m1v", "m2v", "ivf", "nut", "ogg"}  # ogg is rather sound
    assert {f".{name}" for names in CONTAINERS.values() for name in names if name not in bare} <= set(
        VIDEO_SUFFIXES
    )


@pytest.mark.parametrize("indices", [range(COUNT), [0, 0, 3, 3, 3, 7], range(41, 60), [COUNT - 1], []])
def test_frames_in_order_are_those_of_random_access(film: Path, indices: Sequence[int]) -> None:
    reader = VideoReader(film)
    played = list(reader.frames(indices))
    np.testing.assert_array_equal(np.array(played).reshape(-1, HEIGHT, WIDTH, 3), reader.get(indices))
    assert all(
        (a is b) == (i == j) for (a, i), (b, j) in itertools.pairwise(zip(played, indices, strict=True))
    )


def test_wrong_indices_are_refused(film: Path) -> None:
    reader = VideoReader(film)
    with pytest.raises(ValueError, match="in order"):
        list(reader.frames([3, 2]))
    for index in (-1, COUNT):
        with pytest.raises(IndexError):
            list(reader.frames([index]))


def test_damage_that_players_conceal_is_refused_where_reading_is_strict(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "hurt.mp4"
    ground = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    write_video(path, [np.roll(ground, shift, axis=1) for shift in range(50)])
    data = bytearray(path.read_bytes())
    inside_first_picture = data.index(b"mdat") + 3000
    for place in range(5):
        data[inside_first_picture + place] ^= 0x55
    path.write_bytes(data)
    assert len(read_video(path)) == 50
    assert ["1 of 50 frames are damaged" in one for one in caplog.messages] == [True]
    with pytest.raises(UserError, match="damaged video"):
        list(VideoReader(path, strict=True).frames(range(50)))


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda stored: stored[: len(stored) // 2],
    "zeros": lambda stored: bytes(len(stored)),
    "noise": lambda stored: np.random.default_rng(0).bytes(len(stored)),
}


@pytest.mark.parametrize("group", [GROUPS["libx264"]["closed"], {"g": "1"}], ids=["closed", "intra"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_few_packets_that_cannot_be_decoded_are_passed_over_in_time(
    tmp_path: Path, damage: str, group: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    lost = (31, 32, 100, 151)
    whole = encode(tmp_path / "a.mp4", "libx264", Fraction(25), group, counted(200))
    path = remux(whole, tmp_path / "few.mp4", change=DAMAGE[damage], changed=lost)
    shown = numbers_of(read_video(path))
    assert [bool(re.search(r"[45] of 200 frames are damaged", one)) for one in caplog.messages] == [True]
    if group["g"] == "1":
        assert shown == [{31: 30, 32: 30, 100: 99, 151: 150}.get(number, number) for number in range(200)]
    else:  # some lean on what is lost
        away = np.abs(np.array(shown) - np.arange(200))
        assert len(lost) <= np.count_nonzero(away) <= 6 * len(lost)
        assert away.max() < 12
        assert not away[np.r_[:26, 36:96, 108:146, 156:200]].any()
    reader = VideoReader(path)
    assert numbers_of(reader.get([199, 105, 30, 31, 90])) == [
        shown[place] for place in (199, 105, 30, 31, 90)
    ]
    with pytest.raises(UserError, match=r"damaged video at 1\.\d s"):
        list(VideoReader(path, strict=True).frames(range(200)))
    many = remux(whole, tmp_path / "many.mp4", change=DAMAGE[damage], changed=range(7, 200, 12))
    with pytest.raises(UserError, match=r"many.mp4: damaged video at \d\.\d s"):
        read_video(many)


@pytest.mark.parametrize(("codec", "container"), [("libx264", "mp4"), ("mpeg4", "avi"), ("mpeg2video", "ts")])
def test_pictures_that_the_decoder_made_up_are_passed_over_and_counted(
    tmp_path: Path, codec: str, container: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = encode(tmp_path / f"a.{container}", codec, Fraction(25), {"g": "1", "b": "4M"}, counted(200))
    lost = (31, 32, 100, 151)
    reader = VideoReader(remux(whole, tmp_path / f"few.{container}", change=shredded, changed=lost))
    played = list(reader.frames(range(200)))
    shown = [{31: 30, 32: 30, 100: 99, 151: 150}.get(number, number) for number in range(200)]
    assert numbers_of(played) == shown
    assert ["4 of 200 frames are damaged" in one for one in caplog.messages] == [True]
    np.testing.assert_array_equal(reader.get([150, 32, 100]), [played[at] for at in (150, 32, 100)])
    many = remux(whole, tmp_path / f"many.{container}", change=shredded, changed=range(7, 200, 12))
    with pytest.raises(UserError, match=r"many\.\w+: damaged video at \d\.\d s"):
        read_video(many)
    assert not VideoReader(whole).warn_of_damage()


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
