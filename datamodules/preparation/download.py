"""Getting originals from the web with yt-dlp; nothing here runs unless it is asked for."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.errors import UserError
from datamodules.files import require_output_folder
from datamodules.media.video import probe
from datamodules.preparation.sources import file_stem, videos_below

MOST_LINES = 1080
"""Height in pixels of the largest version that is asked for."""
SOUND = ".sound"
"""What follows a video's name in that of the file with its sound, where the two lie apart."""
UNFINISHED = (".part", ".ytdl")
"""What the suffix of a download that broke off begins with."""
ATTEMPTS = 3
SECONDS_OF_SILENCE = 30

_log = logging.getLogger(__name__)
_silent = logging.Logger("yt_dlp", logging.CRITICAL + 1)  # its errors come as exceptions


def download_originals(urls: Mapping[str, str], raw: Path) -> dict[str, str]:
    """Download what isn't there yet, by name and address, as ``raw/NAME.*``; returns what could not be had, name -> reason.

    Web sites serve sharp pictures without sound; they are not put together (``NAME.sound.*``), so that no ffmpeg program is
    needed. A download that broke off goes on where it was.

    Raises:
        UserError: yt-dlp is not installed, or the folder can't be written to.
    """
    try:
        import yt_dlp
    except ImportError:
        raise UserError("downloading needs yt-dlp; install it with: pip install 'ifmdm[download]'") from None
    raw = require_output_folder(raw)
    raw.mkdir(parents=True, exist_ok=True)
    problems: dict[str, str] = {}
    there = videos_by_name(raw)
    best = f"bv*[height<={MOST_LINES}]/b[height<={MOST_LINES}]/b"
    for number, (name, url) in enumerate(urls.items(), start=1):
        try:
            video = there.get(file_stem(name))
            if video is None:
                _log.info("downloading %d of %d: %s", number, len(urls), name)
                video = _fetch(yt_dlp, url, raw, file_stem(name), best)
            if sound_file(video) is None and not probe(video).has_audio:
                _fetch(yt_dlp, url, raw, file_stem(name) + SOUND, "ba")
        except (yt_dlp.utils.YoutubeDLError, UserError, OSError) as error:
            problems[name] = _one_line(error)
            _log.warning("%s: not downloaded: %s", name, problems[name])
    return problems


def videos_by_name(raw: Path) -> dict[str, Path]:
    """The videos below a folder by their names without suffix; files with sound alone are left out."""
    return {path.stem: path for path in videos_below(raw) if not path.stem.endswith(SOUND)}


def sound_file(video: Path) -> Path | None:
    """The file with a video's sound, where ``download_originals`` got the two apart."""
    found = sorted(video.parent.glob(f"{video.stem}{SOUND}.*"))
    return next((path for path in found if not path.suffix.startswith(UNFINISHED)), None)


def _fetch(yt_dlp: Any, url: str, raw: Path, stem: str, quality: str) -> Path:
    """Download one file and return where it is."""
    options = {
        "format": quality,
        "outtmpl": {"default": str(raw / (stem.replace("%", "%%") + ".%(ext)s"))},
        "noplaylist": True,
        "quiet": True,
        "noprogress": True,
        "no_warnings": True,
        "logger": _silent,
        "retries": ATTEMPTS,
        "fragment_retries": ATTEMPTS,
        "socket_timeout": SECONDS_OF_SILENCE,
        "overwrites": False,
        "fixup": "never",
    }
    with yt_dlp.YoutubeDL(options) as downloader:
        facts = downloader.extract_info(url, download=True)
    parts = facts.get("requested_downloads") or []
    if not parts:
        raise UserError(f"{url}: nothing was downloaded")
    return Path(parts[0]["filepath"])


def _one_line(error: Exception) -> str:
    """An error's text without yt-dlp's colours and advice."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    return (text.splitlines() or [type(error).__name__])[0].removeprefix("ERROR: ")
