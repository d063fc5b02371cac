"""Fixtures of the tests of sound, pictures and video."""

from fractions import Fraction
from pathlib import Path

import pytest

from tests.datamodules.media.numbered_videos import GROUPS, counted, encode


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """H.264 with open groups of pictures at 25 fps."""
    return encode(tmp_path / "film.mp4", "libx264", Fraction(25), GROUPS["libx264"]["open"], counted())
