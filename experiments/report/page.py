"""A page of sections, as one HTML file that holds everything in itself: pictures, curves, videos."""

import base64
import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from experiments.results import write_whole
from experiments.version import __version__

MAX_VIDEO_BYTES = 1_000_000
MAX_PICTURE_BYTES = 3_000_000
MAX_VIDEOS = 16
MAX_PICTURES = 100
MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".gif": "image/gif", ".mp4": "video/mp4"}


class Table(NamedTuple):
    """Texts: a caption, the heads of the columns, and rows with one for every column."""

    caption: str
    head: list[str]
    rows: list[list[str]]


Media = list[tuple[Path, str]]
"""Files and their captions."""


@dataclass
class Section:
    """A part of the page: what it has, in the order of the fields; plain texts."""

    title: str
    lead: str = ""  # one or two sentences
    points: list[tuple[str, str]] = field(default_factory=list)  # (verdict, statement), one a line
    facts: dict[str, str] = field(default_factory=dict)  # name -> value
    tables: list[Table] = field(default_factory=list)
    figures: list[tuple[str, str]] = field(default_factory=list)  # SVG elements and their captions
    pictures: Media = field(default_factory=list)  # PNG or JPEG
    videos: Media = field(default_factory=list)  # mp4
    links: bool = False  # whether videos that are too large are linked, as files that lie beside the page
    notes: list[str] = field(default_factory=list)  # remarks, such as what is missing


def captioned(paths: Sequence[Path]) -> Media:
    """Files with the caption that their names give."""
    return [(path, path.stem.replace("_", " ")) for path in paths]


def write_page(
    sections: Sequence[Section], output: Path, title: str, lead: str = "", script: str = ""
) -> Path:
    """Write sections as one HTML file; media that are too large or too many are named, not embedded.

    Cells of tables may be `markupsafe.Markup`; ``script`` is JavaScript of our own.
    """
    from jinja2 import Environment, FileSystemLoader

    linked = [path for one in sections if one.links for path, _ in _large(one.videos, MAX_VIDEO_BYTES)]

    def source(path: Path) -> str:
        return quote(os.path.relpath(path, output.parent)) if path in linked else _data_uri(path)

    for section in sections:
        left = _leave_out(section.pictures, MAX_PICTURE_BYTES)
        left += [] if section.links else _leave_out(section.videos, MAX_VIDEO_BYTES)
        left += section.videos[MAX_VIDEOS:] + section.pictures[MAX_PICTURES:]
        del section.videos[MAX_VIDEOS:], section.pictures[MAX_PICTURES:]
        for path, _ in left[:MAX_PICTURES]:
            section.notes.append(f"not embedded ({path.stat().st_size / 1e6:.1f} MB): {path.name}")
    here = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=here, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    text = environment.get_template("page.html").render(
        title=title,
        lead=lead,
        sections=sections,
        data_uri=_data_uri,
        source=source,
        linked=linked,
        script=script,
        made=f"{datetime.date.today():%d %B %Y}",
        version=__version__,
    )
    return write_whole(output, text)


def _large(media: Media, most: int) -> Media:
    return [one for one in media if one[0].stat().st_size > most]


def _leave_out(media: Media, most: int) -> Media:
    """Take the media of more bytes out of the list; returns them."""
    large = _large(media, most)
    media[:] = [one for one in media if one not in large]
    return large


def _data_uri(path: Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    return f"data:{MEDIA_TYPES[path.suffix.lower()]};base64,{content}"
