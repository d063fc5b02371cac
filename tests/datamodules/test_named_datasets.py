"""What HDTF, VoxCeleb and the synthetic heads add to the DataModule that they share."""

from pathlib import Path

import pytest

from datamodules.clips.manifest import read_manifest, write_manifest
from datamodules.clips.splits import find_splits, read_splits
from datamodules.errors import UserError
from datamodules.hdtf import HDTFDataModule
from datamodules.preparation.hdtf import FIXED_SPLITS
from datamodules.synthetic import SyntheticDataModule
from datamodules.voxceleb import VoxCelebDataModule
from tests.datamodules.test_talking_head import Model, fit


def test_hdtf_takes_its_fixed_splits_whatever_the_manifest_says(fake_clips: Path, tmp_path: Path) -> None:
    records = read_manifest(fake_clips)[:3]
    for record, identity in zip(records, ("Radio1", "JamesClyburn", "a stranger"), strict=True):
        record.identity, record.split = identity, "val"
    write_manifest(tmp_path, records)
    splits = read_splits(find_splits(FIXED_SPLITS))
    module = HDTFDataModule(tmp_path)
    for record in records[:2]:
        assert record.id in [one.id for one in module.records(splits[record.identity])]
    assert len(HDTFDataModule(tmp_path, splits=None).records("val")) == 3


def test_where_clips_of_hdtf_come_from_is_told() -> None:
    with pytest.raises(
        UserError, match="data/hdtf-512: no prepared clips there; they come from HDTF, by `ifmdm prepare"
    ):
        HDTFDataModule().prepare_data()


def test_voxcelebs_official_test_speakers_are_never_trained_on(fake_clips: Path, tmp_path: Path) -> None:
    records = read_manifest(fake_clips)[:4]
    for record, identity in zip(records, ("id10269", "id10270", "id10309", "id10310"), strict=True):
        record.identity, record.split = identity, "train"
    write_manifest(tmp_path, records)
    module = VoxCelebDataModule(tmp_path)
    assert [one.identity for one in module.records("train")] == ["id10269", "id10310"]
    assert [one.identity for one in module.records("test")] == ["id10270", "id10309"]


def test_a_plain_trainer_has_synthetic_heads_rendered_once(tmp_path: Path, capsys) -> None:
    pytest.importorskip("espeakng_loader")
    options = {"clips": 3, "seconds": (0.6, 0.9), "render_workers": 0, "batch_size": 2, "pairs_per_clip": 2}
    for told in ("rendering clips: 3 of 3", ""):
        model = fit(Model(), SyntheticDataModule(tmp_path / "data", 32, **options), max_epochs=1)
        assert model.seen[0][1].shape == (2, 3, 32, 32)
        assert told in capsys.readouterr().err
    assert len(read_manifest(tmp_path / "data")) == 3
