"""Playing in order gives what random access gives, and refuses what players paint over."""

from pathlib import Path

import numpy as np
import pytest

from datamodules import playback
from datamodules.errors import UserError
from datamodules.playback import play
from datamodules.video import VideoReader, write_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("playback") / "clip.mp4"
    generator = np.random.default_rng(0)
    ground = generator.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    frames = np.stack([np.roll(ground, shift, axis=1) for shift in range(90)])
    write_video(path, frames, keyframe_interval=20)
    return path


@pytest.mark.parametrize("indices", [range(90), [0, 0, 3, 3, 3, 7], range(41, 60), [89], []])
@pytest.mark.parametrize("seek_from", [10.0, 0.5])
def test_pictures_are_those_of_random_access(
    clip: Path, indices: list[int], seek_from: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playback, "SEEK_FROM", seek_from)
    reader = VideoReader(clip)
    played = list(play(reader, indices))
    assert len(played) == len(indices)
    if played:
        np.testing.assert_array_equal(np.stack(played), reader.get(indices))


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
