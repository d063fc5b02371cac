"""Splits by a hash of the identity, and files of splits that a DataModule takes in place of the manifest's."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from datamodules.clips.manifest import read_manifest, write_manifest
from datamodules.clips.splits import read_splits, split_by_identity, with_splits, write_splits
from datamodules.errors import UserError
from datamodules.talking_head import TalkingHeadDataModule
from metrics.evaluation.clips import reference_clips


def test_a_written_file_says_what_the_manifest_says(fake_clips: Path, tmp_path: Path) -> None:
    records = read_manifest(fake_clips)
    path = write_splits(tmp_path / "splits.csv", records)
    assert with_splits(records, read_splits(path)) == records


def test_a_datamodule_takes_another_files_splits(fake_clips: Path, tmp_path: Path) -> None:
    path = tmp_path / "paper.csv"
    path.write_text("identity,split\nperson0,test\nperson3,train\nperson4,val\nperson5,train\n")
    module = TalkingHeadDataModule(fake_clips, 16, splits=path)
    found = {split: [r.identity for r in module.records(split)] for split in ("train", "val", "test")}
    assert found == {"train": ["person3", "person5"], "val": ["person4"], "test": ["person0"]}
    path.write_text("identity,split\nperson0,test\n")
    with pytest.raises(UserError, match="no clips in the split 'train'") as caught:
        TalkingHeadDataModule(fake_clips, 16, splits=path).records("train")
    assert str(path) in str(caught.value)


def test_one_person_in_several_splits_is_refused(fake_clips: Path, tmp_path: Path) -> None:
    records = read_manifest(fake_clips)
    other = next(one for one in records if one.split != records[0].split)
    write_manifest(
        tmp_path, [replace(one, identity="ann") if one in (records[0], other) else one for one in records]
    )
    for refuse in (
        TalkingHeadDataModule(tmp_path, 16).records,
        lambda split: reference_clips(tmp_path, split),
    ):
        with pytest.raises(UserError, match=r"manifest\.jsonl: ann is in the splits"):
            refuse("train")


def test_split_is_stable_when_identities_are_added() -> None:
    first = [f"person{number}" for number in range(500)]
    splits = split_by_identity(first)
    more = split_by_identity([*reversed(first), *(f"other{number}" for number in range(500))])
    assert all(more[name] == split for name, split in splits.items())
    counts = Counter(more.values())
    assert abs(counts["train"] - 800) < 50
    assert abs(counts["val"] - 100) < 40
    assert abs(counts["test"] - 100) < 40
    assert split_by_identity(first, seed=1) != splits
    assert set(split_by_identity(first, (1, 0, 0)).values()) == {"train"}
    with pytest.raises(ValueError, match="add up to 1"):
        split_by_identity(first, (0.8, 0.1, 0.2))


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_a_handful_of_identities_fills_every_split(count: int) -> None:
    names = [f"p{n}" for n in range(count)]
    for seed in range(20):
        splits = split_by_identity(names, seed=seed)
        assert sorted(splits) == names
        train = list(splits.values()).count("train")
        assert train == 1 or (train > 1 and set(splits.values()) == {"train", "val", "test"})
        assert splits == split_by_identity(reversed(names), seed=seed)
    assert set(split_by_identity(names, (1, 0, 0)).values()) == {"train"}
