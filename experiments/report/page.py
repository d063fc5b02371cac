"""A page of sections, as one HTML file that holds everything in itself: pictures, curves, videos."""

import base64
import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiments.results import write_whole
from experiments.version import __version__

MAX_VIDEO_BYTES = 1_000_000
MAX_PICTURE_BYTES = 3_000_000
MAX_VIDEOS = 16
MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".gif": "image/gif", ".mp4": "video/mp4"}


@dataclass
class Table:
    """A caption, the heads of the columns, and rows with one plain text for every column."""

    caption: str
    head: list[str]
    rows: list[list[str]]


@dataclass
class Section:
    """A part of the page.

    Attributes:
        title: Heading.
        lead: One or two sentences under it, plain text.
        points: (verdict, statement), one a line.
        facts: Name -> value pairs.
        tables: Shown below them.
        figures: SVG elements, with captions.
        pictures: (path, caption) of PNG or JPEG files.
        videos: (path, caption) of mp4 files.
        notes: Remarks, such as what is missing.
    """

    title: str
    lead: str = ""
    points: list[tuple[str, str]] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    figures: list[tuple[str, str]] = field(default_factory=list)
    pictures: list[tuple[Path, str]] = field(default_factory=list)
    videos: list[tuple[Path, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def captioned(paths: Sequence[Path]) -> list[tuple[Path, str]]:
    """Files with the caption that their names give."""
    return [(path, path.stem.replace("_", " ")) for path in paths]


def write_page(sections: Sequence[Section], output: Path, title: str, lead: str = "") -> Path:
    """Write sections as one HTML file; media that are too large are named, not embedded."""
    from jinja2 import Environment, FileSystemLoader

    for section in sections:
        pictures, large = _embeddable(section.pictures, MAX_PICTURE_BYTES)
        videos, long = _embeddable(section.videos, MAX_VIDEO_BYTES)
        section.pictures, section.videos = pictures, videos[:MAX_VIDEOS]
        for path, _ in [*large, *long, *videos[MAX_VIDEOS:]]:
            section.notes.append(f"not embedded ({path.stat().st_size / 1e6:.1f} MB): {path.name}")
    here = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=here, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    text = environment.get_template("page.html").render(
        title=title,
        lead=lead,
        sections=sections,
        data_uri=_data_uri,
        made=f"{datetime.date.today():%d %B %Y}",
        version=__version__,
    )
    return write_whole(output, text)


def _embeddable(media: Sequence[tuple[Path, str]], most: int) -> tuple[list, list]:
    """The media of at most so many bytes, and the others."""
    small = [one for one in media if one[0].stat().st_size <= most]
    return small, [one for one in media if one not in small]


def _data_uri(path: Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    return f"data:{MEDIA_TYPES[path.suffix.lower()]};base64,{content}"
