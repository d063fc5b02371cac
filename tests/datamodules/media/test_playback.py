"""Playing in order gives what random access gives, and refuses what players paint over."""

from pathlib import Path

import av
import numpy as np
import pytest

from datamodules.errors import UserError
from datamodules.media.playback import play
from datamodules.media.video import VideoReader, write_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("playback") / "clip.mp4"
    generator = np.random.default_rng(0)
    ground = generator.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    frames = np.stack([np.roll(ground, shift, axis=1) for shift in range(90)])
    write_video(path, frames)
    return path


@pytest.mark.parametrize("indices", [range(90), [0, 0, 3, 3, 3, 7], range(41, 60), [89], []])
@pytest.mark.parametrize("seek_from", [10.0, 0.5])
def test_pictures_are_those_of_random_access(clip: Path, indices: list[int], seek_from: float) -> None:
    reader = VideoReader(clip)
    played = list(play(reader, indices, seek_from))
    assert len(played) == len(indices)
    if played:
        np.testing.assert_array_equal(np.stack(played), reader.get(indices))


CONTAINERS = {
    "fragmented.mp4": {"movflags": "frag_keyframe+empty_moov"},
    "no_edit_list.mp4": {"use_editlist": "0"},
} | {name: {} for name in ("plain.mp4", "stream.ts", "film.mkv", "film.flv", "film.avi")}


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_start_gives_its_own_picture_whatever_the_container(name: str, tmp_path: Path) -> None:
    """B-frames and open groups of pictures: containers differ in what they jump to."""
    path = tmp_path / name
    with av.open(str(path), "w", options=CONTAINERS[name]) as container:
        options = {"g": "12", "bf": "3", "x264-params": "open-gop=1"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.height = stream.width = 64
        stream.pix_fmt = "yuv420p"
        for number in range(60):
            grey = np.full((64, 64, 3), 20 + 3 * number, np.uint8)  # its number is what a picture shows
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    reader = VideoReader(path)

    def greys(first: int, end: int) -> np.ndarray:
        return np.array([picture.mean() for picture in play(reader, range(first, end), 0.3, 0.2)])

    whole = greys(0, len(reader))
    assert len(whole) == 60
    assert (np.diff(whole) > 1).all()
    for first in range(60):
        np.testing.assert_allclose(greys(first, min(60, first + 3)), whole[first : first + 3])


def test_indices_that_go_back_are_refused(clip: Path) -> None:
    with pytest.raises(ValueError, match="in order"):
        list(play(VideoReader(clip), [3, 2]))


def test_damage_that_players_conceal_is_refused(clip: Path, tmp_path: Path) -> None:
    data = bytearray(clip.read_bytes())
    inside_first_picture = data.index(b"mdat") + 3000
    for place in range(5):
        data[inside_first_picture + place] ^= 0x55
    path = tmp_path / "hurt.mp4"
    path.write_bytes(data)
    reader = VideoReader(path)
    assert len(reader.get(range(90))) == 90  # concealed
    with pytest.raises(UserError, match=r"damaged video at \d+\.\d s"):
        list(play(reader, range(90)))
