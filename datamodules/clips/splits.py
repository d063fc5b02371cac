"""Files that say which identity belongs to which split, so that results on one data set can be compared.

CSV with the columns ``identity`` and ``split``. ``ifmdm prepare`` writes one beside the manifest; a DataModule can be given
another one, such as that of a paper or one that comes with the package (``datamodules/splits``).
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from datamodules.clips.manifest import SPLITS, ClipRecord
from datamodules.errors import UserError
from datamodules.files import require_file, whole_output

SPLITS_NAME = "splits.csv"
SHIPPED = Path(__file__).resolve().parents[1] / "splits"
"""Folder of the files that come with the package."""


def find_splits(name: str | Path) -> Path:
    """The file that ``name`` means: one that comes with the package, by its stem, or else a file.

    Raises:
        UserError: Neither.
    """
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
    """Identity -> split.

    Raises:
        UserError: no such file, or not of this form.
    """
    try:
        with require_file(path, "splits").open(newline="", encoding="utf-8-sig") as handle:
            rows = csv.DictReader(handle)
            if not {"identity", "split"} <= set(rows.fieldnames or ()):
                raise UserError(f"{path}: needs the columns identity and split")
            found: dict[str, str] = {}
            for row in rows:
                identity, split = (row["identity"] or "").strip(), (row["split"] or "").strip()
                if split not in SPLITS:
                    raise UserError(
                        f"{path}: {identity} is in split {split!r}; splits are {', '.join(SPLITS)}"
                    )
                if found.setdefault(identity, split) != split:
                    raise UserError(
                        f"{path}: {identity} is in two splits; the same person must not be in both"
                    )
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: is no CSV file ({error}); save it as UTF-8 text") from None
    return found


def with_splits(records: Iterable[ClipRecord], splits: Mapping[str, str]) -> list[ClipRecord]:
    """The clips of the identities that are listed, each in the split it is listed in."""
    return [replace(one, split=splits[one.identity]) for one in records if one.identity in splits]
