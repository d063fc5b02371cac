"""Colours of written video: of BT.709 and tagged so from 720 lines on, as players take them for, BT.601 below."""

from pathlib import Path

import av
import numpy as np
import pytest

from datamodules.media.clip_reading import ClipReader
from datamodules.media.video import VideoReader, write_video

COLOURS = np.array(
    [[200, 30, 40], [20, 180, 60], [30, 40, 190], [240, 220, 10], [255, 255, 255], [0, 0, 0]], np.uint8
)
BT709, UNKNOWN = 1, 2


@pytest.mark.parametrize(
    ("height", "width", "tag", "weights"),
    [
        (360, 480, UNKNOWN, (0.299, 0.587, 0.114)),
        (720, 1278, BT709, (0.2126, 0.7152, 0.0722)),
        (1919, 61, BT709, None),
    ],
)
def test_colours_come_back_and_players_show_the_same(
    tmp_path: Path, height: int, width: int, tag: int, weights: tuple[float, ...] | None
) -> None:
    frame = np.repeat(COLOURS, -(-height // len(COLOURS)), axis=0)[:height, None].repeat(width, axis=1)
    rows = [height * (2 * place + 1) // (2 * len(COLOURS)) for place in range(len(COLOURS))]
    write_video(tmp_path / "a.mp4", [frame] * 3, crf=8)
    for reader in (VideoReader(tmp_path / "a.mp4"), ClipReader(tmp_path / "a.mp4")):
        np.testing.assert_allclose(reader.get([1])[0][rows, width // 2], COLOURS, atol=3)
    with av.open(str(tmp_path / "a.mp4")) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.colorspace, codec.color_primaries, codec.color_trc) == (tag, tag, tag)
        luma = next(container.decode(video=0)).to_ndarray()[rows, width // 2]
    if weights is not None:
        np.testing.assert_allclose(luma, 16 + COLOURS @ np.array(weights) * 219 / 255, atol=2)
