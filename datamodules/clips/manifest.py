"""The clip manifest: one JSON object a line, one line a clip.

A prepared folder looks the same whatever it was made from::

    ROOT/manifest.jsonl           one ClipRecord a line
    ROOT/clips/ID.mp4             25 fps video
    ROOT/clips/ID.wav             16 kHz mono speech
    ROOT/clips/ID.safetensors     per-frame annotations (datamodules/clips/annotations.py)
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path, PurePosixPath

from datamodules.errors import UserError
from datamodules.files import parse_plain_json, write_text

MANIFEST_NAME = "manifest.jsonl"
SCHEMA = 1
SPLITS = ("train", "val", "test")
SYNTHETIC_SOURCE = "synthetic_faces"
"""``source`` of clips that the generator of synthetic heads drew."""
MAX_FRAMES = 25 * 3600
"""Of a clip: an hour."""
MAX_SIZE = 8192
_MOST = 1e9  # seconds, or pixels
_MAX_LINE = 64 * 1024
ID_ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


@dataclass
class ClipRecord:
    """What is known of one prepared clip.

    Attributes:
        id: File stem of all files of the clip; letters, digits, ``.``, ``_`` and ``-``.
        video: POSIX path of the video, relative to the dataset folder.
        audio: POSIX path of the speech, relative to the dataset folder, or None without sound.
        sha256: Hexadecimal hash of the video file; empty where it was not computed.
        identity: Who is seen; splits never share an identity.
        voice: Who is heard; the identity itself where picture and sound were recorded together.
        split: ``train``, ``val`` or ``test``.
        source: Where the clip comes from (raw file or generator).
        start: Position of the first frame in the source, in seconds.
        frames: Number of frames at 25 fps, at least 1.
        size: Edge of the square frames in pixels.
        crop: x0, y0, x1, y1 of the crop in source pixels, or None.
        quality: Named measures of the clip (plain JSON values).
        annotations: POSIX path of the annotation file, relative to the dataset folder, or None.
        schema: Version of this layout.
    """

    id: str
    video: str
    audio: str | None
    sha256: str
    identity: str
    voice: str
    split: str
    source: str
    start: float
    frames: int
    size: int
    crop: list[float] | None = None
    quality: dict = field(default_factory=dict)
    annotations: str | None = None
    schema: int = SCHEMA

    @property
    def files(self) -> list[str]:
        """Paths of all its files, relative to the dataset folder."""
        return [name for name in (self.video, self.audio, self.annotations) if name is not None]

    @property
    def drawn(self) -> bool:
        """Whether it shows a synthetic head: its annotations are the truth, and judges of real faces don't know it."""
        return self.source == SYNTHETIC_SOURCE


def without_twins(records: Iterable[ClipRecord]) -> list[ClipRecord]:
    """The clips whose motion is their own.

    A twin (``quality["twin_of"]`` names its original) shows another clip's motion and sound on another head: an answer to
    compare with, not one more sample.
    """
    return [record for record in records if "twin_of" not in record.quality]


def twins_of(records: Iterable[ClipRecord]) -> dict[str, ClipRecord]:
    """The twins among the clips by the ids of their originals, see `without_twins`."""
    return {record.quality["twin_of"]: record for record in records if "twin_of" in record.quality}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST


def _is_count(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _is_inner_path(value: object, optional: bool = False) -> bool:
    """Whether the value is a relative POSIX path that stays inside the dataset folder."""
    if value is None:
        return optional
    if not isinstance(value, str) or not value or "\\" in value:
        return False
    path = PurePosixPath(value)
    return not path.is_absolute() and ".." not in path.parts


def record_problem(record: ClipRecord) -> str | None:
    """What is wrong with a record, in a few words, or None if it is valid."""
    for name in ("id", "sha256", "identity", "voice", "source"):
        if not isinstance(getattr(record, name), str):
            return f"field '{name}' must be a string"
    crop = record.crop
    checks = [
        (record.schema == SCHEMA, f"schema {record.schema!r} is not supported (expected {SCHEMA})"),
        (bool(record.id) and set(record.id) <= ID_ALPHABET, f"id {record.id!r} is not a plain file stem"),
        (bool(record.identity), "identity is empty"),
        (record.split in SPLITS, f"split {record.split!r} is none of {', '.join(SPLITS)}"),
        (_is_inner_path(record.video), f"video {record.video!r} is not a relative path inside the folder"),
        (_is_inner_path(record.audio, True), f"audio {record.audio!r} is not a relative path"),
        (
            _is_inner_path(record.annotations, True),
            f"annotations {record.annotations!r} is not a relative path",
        ),
        (_is_number(record.start) and record.start >= 0, f"start {record.start!r} is not a time in seconds"),
        (
            _is_count(record.frames, MAX_FRAMES),
            f"frames {record.frames!r} is not an integer in 1..{MAX_FRAMES}",
        ),
        (_is_count(record.size, MAX_SIZE), f"size {record.size!r} is not an integer in 1..{MAX_SIZE}"),
        (isinstance(record.quality, dict), "quality is not an object"),
        (
            crop is None or (isinstance(crop, list) and len(crop) == 4 and all(map(_is_number, crop))),
            "crop is not a list of four numbers",
        ),
    ]
    return next((problem for good, problem in checks if not good), None)


def write_manifest(folder: Path, records: Iterable[ClipRecord]) -> Path:
    """Write ``folder/manifest.jsonl`` in one step, sorted by clip id; the folder is made if missing.

    Raises:
        UserError: A record is invalid or an id occurs twice.
    """
    folder = Path(folder)
    path = folder / MANIFEST_NAME
    ordered = sorted(records, key=lambda record: record.id)
    seen: set[str] = set()
    for record in ordered:
        problem = record_problem(record) or (f"id {record.id!r} occurs twice" if record.id in seen else None)
        if problem:
            raise UserError(f"cannot write {path}: clip {record.id!r}: {problem}")
        seen.add(record.id)
    text = "".join(json.dumps(asdict(record), allow_nan=False) + "\n" for record in ordered)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return path


def _parse_line(line: str) -> ClipRecord:
    """One manifest line as a record; ValueError with the reason if it is not one."""
    if len(line) > _MAX_LINE:
        raise ValueError(f"over {_MAX_LINE // 1024} KB")
    values = parse_plain_json(line)
    every = fields(ClipRecord)
    required = {one.name for one in every if one.default is MISSING and one.default_factory is MISSING}
    if missing := sorted(required - values.keys()):
        raise ValueError(f"missing field {', '.join(missing)}")
    if unknown := sorted(values.keys() - {one.name for one in every}):
        raise ValueError(f"unknown field {', '.join(unknown)}")
    record = ClipRecord(**values)
    if problem := record_problem(record):
        raise ValueError(problem)
    return record


def read_manifest(folder: Path) -> list[ClipRecord]:
    """Read and check ``folder/manifest.jsonl``: the clips in file order.

    Raises:
        UserError: No manifest there, or a line of it is wrong; names file, line and reason.
    """
    path = Path(folder) / MANIFEST_NAME
    if not path.parent.is_dir():
        raise UserError(f"{folder}: no such folder of prepared clips; check the name")
    if not path.is_file():
        raise UserError(f"{path}: no clip manifest there; prepare the data first (ifmdm prepare)")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a UTF-8 text file; prepare the data again") from error
    return parse_manifest(text, str(path))


def parse_manifest(text: str, path: str) -> list[ClipRecord]:
    """Check the text of a manifest, which ``path`` names in messages: the clips in file order.

    Raises:
        UserError: A line is wrong, or there is none; names file, line and reason.
    """
    records: list[ClipRecord] = []
    first_line: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = _parse_line(line)
            if record.id in first_line:
                raise ValueError(f"id {record.id!r} occurs already in line {first_line[record.id]}")
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}") from error
        first_line[record.id] = number
        records.append(record)
    if not records:
        raise UserError(f"{path}: the manifest lists no clips; prepare the data again")
    return records


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in pieces."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
