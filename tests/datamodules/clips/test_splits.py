"""Split files: written as read, and taken by a DataModule in place of the manifest's splits."""

from pathlib import Path

import pytest

from datamodules.clips.manifest import read_manifest
from datamodules.clips.splits import read_splits, with_splits, write_splits
from datamodules.errors import UserError
from datamodules.talking_head import TalkingHeadDataModule


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
