"""Which identity belongs to which split: by a hash, or as a file says, so that results on one data set can be compared.

The file is a CSV with the columns ``identity`` and ``split``. ``ifmdm prepare`` writes one next to the manifest; a DataModule
can be given another one, such as that of a paper or one that comes with the package (``datamodules/splits``).
"""

import csv
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from datamodules.clips.manifest import SPLITS, ClipRecord
from datamodules.errors import UserError
from datamodules.files import require_file, whole_output

SPLITS_NAME = "splits.csv"
SHIPPED = Path(__file__).resolve().parents[1] / "splits"
"""Folder of the files that come with the package."""


def find_splits(name: str | Path) -> Path:
    """The file that ``name`` means: one that comes with the package, by its stem, or else a file; else UserError."""
    shipped = SHIPPED / f"{name}.csv"
    if shipped.is_file():
        return shipped
    if not Path(name).is_file():
        known = ", ".join(sorted(path.stem for path in SHIPPED.glob("*.csv")))
        raise UserError(
            f"{name}: no such splits; give a CSV file with columns identity and split, or one of {known}"
        )
    return Path(name)


def write_splits(path: Path, records: Iterable[ClipRecord]) -> Path:
    """Write the split of each identity."""
    splits = {record.identity: record.split for record in records}
    with whole_output(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(("identity", "split"))
        writer.writerows(sorted(splits.items()))
    return Path(path)


def read_splits(path: Path) -> dict[str, str]:
    """Identity -> split; UserError where there is no such file, or not of this form."""
    found: dict[str, str] = {}
    for identity, split in read_pairs(path, "splits", "identity", "split"):
        if split not in SPLITS:
            raise UserError(f"{path}: {identity} is in split {split!r}; splits are {', '.join(SPLITS)}")
        if found.setdefault(identity, split) != split:
            raise UserError(f"{path}: {identity} is in two splits; the same person must not be in both")
    return found


def read_pairs(path: Path, what: str, first: str, second: str) -> Iterator[tuple[str, str]]:
    """Two columns of a CSV file (UTF-8) of ``what``, without blanks round the values; UserError where it isn't one."""
    try:
        with require_file(path, what).open(newline="", encoding="utf-8-sig") as handle:
            rows = csv.DictReader(handle)
            if not {first, second} <= set(rows.fieldnames or ()):
                raise UserError(f"{path}: needs the columns {first} and {second}")
            for row in rows:
                yield (row[first] or "").strip(), (row[second] or "").strip()
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: is no CSV file ({error}); save it as UTF-8 text") from None


def require_disjoint(records: Iterable[ClipRecord], place: Path) -> None:
    """UserError where one identity is in several splits of the manifest ``place``: it would be judged what was learnt."""
    found: dict[str, str] = {}
    for one in records:
        if (other := found.setdefault(one.identity, one.split)) != one.split:
            raise UserError(
                f"{place}: {one.identity} is in the splits {other} and {one.split}; the same person must not be in both: "
                "mend the manifest, or prepare the data again"
            )


def with_splits(records: Iterable[ClipRecord], splits: Mapping[str, str]) -> list[ClipRecord]:
    """The clips of the identities that are listed, each in the split it is listed in."""
    return [replace(one, split=splits[one.identity]) for one in records if one.identity in splits]


def split_by_identity(
    identities: Iterable[str], fractions: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0
) -> dict[str, str]:
    """Assign identities to train, val and test, in shares that add up to 1, by a hash of their name.

    An identity's split depends on nothing but its name, the seed and the fractions, so data added later never moves a known
    identity; the price: the shares are met on average only. Of a handful of identities one is moved into each split that is
    meant to have some and would have none, training first: only then does a split depend on who else is there.

    Raises:
        ValueError: The fractions are no shares of a whole.
    """
    if len(fractions) != len(SPLITS) or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions must be three shares that add up to 1, not {tuple(fractions)}")
    splits = {}
    for identity in sorted(set(identities)):
        position = int.from_bytes(_digest(f"{seed}/{identity}")[:8], "big") / 2**64
        if position < fractions[0]:
            splits[identity] = "train"
        else:
            splits[identity] = "val" if position < fractions[0] + fractions[1] else "test"
    for split, fraction in zip(SPLITS, fractions, strict=True):
        if fraction == 0 or split in splits.values():
            continue
        train = [identity for identity, place in splits.items() if place == "train"]
        free = list(splits) if split == "train" else train if len(train) > 1 else []
        if free:
            splits[min(free, key=lambda name: _digest(f"{seed}/{split}/{name}"))] = split
    return splits


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
