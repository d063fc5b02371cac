"""Downloads with yt-dlp, from a web server of the test's own."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.media.video import probe, write_video
from datamodules.preparation.download import download_originals, sound_file, videos_by_name

pytest.importorskip("yt_dlp", reason="yt-dlp is an extra: pip install 'ifmdm[download]'")


def test_what_is_listed_is_downloaded_once_and_what_fails_is_told(served, tmp_path: Path) -> None:
    web, server, _ = served
    frames = np.random.default_rng(0).integers(0, 255, (30, 64, 64, 3), dtype=np.uint8)
    sound = np.random.default_rng(1).normal(0, 0.1, 30 * 640).astype(np.float32)
    write_video(web / "talk.mp4", frames, audio=sound)
    (web / "page.html").write_text("<html>no video here</html>")
    raw = tmp_path / "raw"
    urls = {"Ann1": f"{server}/talk.mp4", "Gone": f"{server}/gone.mp4", "Page": f"{server}/page.html"}
    problems = download_originals(urls, raw)
    assert set(problems) == {"Gone", "Page"}
    assert "404" in problems["Gone"]
    assert all("\n" not in reason and "\x1b" not in reason for reason in problems.values())
    [(name, video)] = videos_by_name(raw).items()
    assert name == "Ann1"
    assert probe(video).frames == 30
    assert sound_file(video) is None  # it is in the video
    before = video.stat().st_mtime_ns
    assert set(download_originals(urls, raw)) == {"Gone", "Page"}
    assert video.stat().st_mtime_ns == before


def test_sound_that_lies_apart_is_found_whatever_its_container(tmp_path: Path) -> None:
    for name in ("Ann1.mp4", "Ann1.sound.m4a.part", "Ann1.sound.webm.part-Frag3", "Ann1.sound.ytdl"):
        (tmp_path / name).write_bytes(b"x")
    assert sound_file(tmp_path / "Ann1.mp4") is None
    for suffix in ("webm", "mp4", "flac"):
        (tmp_path / f"Ann1.sound.{suffix}").write_bytes(b"x")
        assert sound_file(tmp_path / "Ann1.mp4") == tmp_path / f"Ann1.sound.{suffix}"
        (tmp_path / f"Ann1.sound.{suffix}").unlink()
