"""HDTF's fixed splits, and where its clips come from."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from datamodules.clips.manifest import read_manifest, write_manifest
from datamodules.clips.splits import find_splits, read_splits
from datamodules.errors import UserError
from datamodules.hdtf import HDTFDataModule
from datamodules.preparation.hdtf import FIXED_SPLITS, fixed_splits, read_hdtf_annotations


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with find_splits(FIXED_SPLITS).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_splits_share_no_identity_and_cover_all_subsets(rows: list[dict[str, str]]) -> None:
    splits = read_splits(find_splits(FIXED_SPLITS))  # refuses an identity that is in two
    count = Counter(splits.values())
    assert 0.10 < count["test"] / len(splits) < 0.15
    assert {(row["clip"].partition("_")[0], row["split"]) for row in rows} == {
        (subset, split) for subset in ("RD", "WDA", "WRA") for split in ("train", "val", "test")
    }
    assert len({row["clip"] for row in rows}) == len(rows) == 436


def test_the_file_is_what_the_published_lists_give(rows: list[dict[str, str]], shared: Path) -> None:
    annotations = read_hdtf_annotations(shared / "data" / "hdtf_annotations")
    assert [tuple(row.values()) for row in rows] == fixed_splits(annotations)
    addresses: dict[str, set[str]] = {}
    for clip in annotations.clips:
        if clip.url:
            addresses.setdefault(clip.url.split("&")[0], set()).add(clip.speaker)
    assert all(len(speakers) == 1 for speakers in addresses.values())


def test_the_module_takes_them_whatever_the_manifest_says(fake_clips: Path, tmp_path: Path) -> None:
    records = read_manifest(fake_clips)[:3]
    for record, identity in zip(records, ("Radio1", "JamesClyburn", "a stranger"), strict=True):
        record.identity, record.split = identity, "val"
    write_manifest(tmp_path, records)
    splits = read_splits(find_splits(FIXED_SPLITS))
    module = HDTFDataModule(tmp_path)
    for record in records[:2]:
        assert record.id in [one.id for one in module.records(splits[record.identity])]
    assert len(HDTFDataModule(tmp_path, splits=None).records("val")) == 3


def test_where_clips_come_from_is_told() -> None:
    with pytest.raises(
        UserError, match="data/hdtf-512: no prepared clips there; they come from HDTF, by `ifmdm prepare"
    ):
        HDTFDataModule().prepare_data()
