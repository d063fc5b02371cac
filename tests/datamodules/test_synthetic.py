"""Synthetic heads are made by the DataModule itself."""

from pathlib import Path

import pytest

from datamodules.clips.manifest import read_manifest
from datamodules.synthetic import SyntheticDataModule
from tests.datamodules.test_talking_head import Model, fit

pytest.importorskip("espeakng_loader")


def test_a_plain_trainer_has_them_rendered_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"clips": 3, "seconds": (0.6, 0.9), "render_workers": 0, "batch_size": 2, "pairs_per_clip": 2}
    for told in ("rendering clips: 3 of 3", ""):
        model = fit(Model(), SyntheticDataModule(tmp_path / "data", 32, **options), max_epochs=1)
        assert model.seen[0][1].shape == (2, 3, 32, 32)
        assert told in capsys.readouterr().err
    assert len(read_manifest(tmp_path / "data")) == 3
