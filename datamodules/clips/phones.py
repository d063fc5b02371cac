"""Times of speech sounds: of a forced alignment (Praat TextGrid, CSV), or the truth of a synthetic clip.

A TextGrid is what the Montreal Forced Aligner writes, in Praat's long or short form. A CSV has a header with the columns
``start`` (or ``begin``), ``end`` and ``phone`` (or ``label``), in seconds; with a column ``type``, rows of ``phones`` count.
"""

import csv
import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.batches import FPS
from datamodules.clips.annotations import read_annotations
from datamodules.errors import UserError
from datamodules.files import require_file

SUFFIXES = (".TextGrid", ".textgrid", ".phones.csv")
"""Behind a clip's stem, of the files that may hold its phones."""

_TOKEN = re.compile(
    r'"(?P<text>(?:[^"]|"")*)"|\[\d*\]|(?<![\w.])(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w.])'
)


@dataclass(frozen=True)
class Phone:
    """One speech sound, from ``start`` to ``end`` in seconds of the clip.

    ``label`` is as its source writes it: IPA, ARPABET; empty for silence.
    """

    label: str
    start: float
    end: float


def phone_file(video: Path) -> Path | None:
    """The alignment next to a clip: ``STEM.TextGrid`` or ``STEM.phones.csv``; None if there is none."""
    names = (video.with_name(video.stem + suffix) for suffix in SUFFIXES)
    return next((path for path in names if path.is_file()), None)


def read_phones(path: str | Path) -> list[Phone]:
    """Phones of a TextGrid, a CSV or a clip's annotations, in the order of time; none where annotations tell no phones.

    Raises:
        UserError: Missing or damaged file, or an alignment without phones.
    """
    path = require_file(path, "phone alignment")
    if path.suffix.lower() == ".textgrid":
        phones = _from_textgrid(path)
    elif path.suffix.lower() == ".csv":
        phones = _from_csv(path)
    else:
        return _from_annotations(path)
    wrong = [phone for phone in phones if not 0 <= phone.start <= phone.end < float("inf")]
    if wrong or not phones:
        reason = f"a phone from {wrong[0].start:g} to {wrong[0].end:g} s" if wrong else "no phone in it"
        raise UserError(f"{path}: {reason}; align the clip again")
    return sorted(phones, key=lambda phone: phone.start)


def _text(path: Path) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not text in UTF-8 or UTF-16; align the clip again") from None


def _from_textgrid(path: Path) -> list[Phone]:
    """Intervals of all tiers that are named ``phones``, or ``SPEAKER - phones``."""
    # Long and short form hold the same texts and numbers in the same order.
    tokens: list[str | float] = [
        float(match["number"]) if match["number"] else match["text"].replace('""', '"')
        for match in _TOKEN.finditer(_text(path))
        if match["number"] or match["text"] is not None
    ]
    names, phones = [], []
    try:
        if tokens[:2] != ["ooTextFile", "TextGrid"]:
            raise ValueError("no head of a TextGrid")
        place = 5  # behind its two texts, two times and number of tiers
        for _ in range(int(tokens[4])):
            kind, name, count = tokens[place], str(tokens[place + 1]), int(tokens[place + 4])
            place += 5
            width = 3 if kind == "IntervalTier" else 2
            names.append(name)
            if width == 3 and name.lower().endswith(("phones", "phonemes", "phone")):
                for start, end, label in zip(*[iter(tokens[place : place + 3 * count])] * 3, strict=True):
                    phones.append(Phone(str(label).strip(), float(start), float(end)))
            place += width * count
            if place > len(tokens):
                raise ValueError(f"tier '{name}' ends early")
    except (ValueError, IndexError, TypeError, OverflowError) as error:
        raise UserError(f"{path}: damaged TextGrid ({error}); align the clip again") from None
    if not phones:
        raise UserError(f"{path}: no tier named 'phones' among {', '.join(names) or 'none'}; align to phones")
    return phones


def _from_csv(path: Path) -> list[Phone]:
    try:
        rows = [
            {str(key).strip().lower(): value for key, value in row.items()}
            for row in csv.DictReader(_text(path).splitlines())
        ]
        return [
            Phone(
                str(row["phone"] if "phone" in row else row["label"]).strip(),
                float(row["start"] if "start" in row else row["begin"]),
                float(row["end"]),
            )
            for row in rows
            if row.get("type", "phones") in ("phone", "phones")
        ]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: wants columns start,end,phone in seconds ({error!r})") from None


def _from_annotations(path: Path) -> list[Phone]:
    """Runs of the array ``phoneme``: frame t begins at t / 25 s."""
    annotations = read_annotations(path)
    numbers, table = annotations.arrays.get("phoneme"), annotations.metadata.get("phoneme_table")
    if numbers is None or not table or not len(numbers):
        return []
    edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    return [
        Phone(table[int(numbers[start])], start / FPS, end / FPS) for start, end in itertools.pairwise(edges)
    ]
