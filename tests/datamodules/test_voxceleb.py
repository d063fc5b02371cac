"""VoxCeleb's official test."""

from pathlib import Path

from datamodules.clips.manifest import read_manifest, write_manifest
from datamodules.voxceleb import VoxCelebDataModule


def test_official_test_speakers_are_never_trained_on(fake_clips: Path, tmp_path: Path) -> None:
    records = read_manifest(fake_clips)[:4]
    for record, identity in zip(records, ("id10269", "id10270", "id10309", "id10310"), strict=True):
        record.identity, record.split = identity, "train"
    write_manifest(tmp_path, records)
    module = VoxCelebDataModule(tmp_path)
    assert [one.identity for one in module.records("train")] == ["id10269", "id10310"]
    assert [one.identity for one in module.records("test")] == ["id10270", "id10309"]
