import argparse
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from datamodules.synthetic import SyntheticDataModule
from datamodules.synthetic_faces.settings import Settings
from experiments import prepare
from experiments.cli import main

CONFIG = Path(prepare.__file__).parent / "configs" / "data" / "synthetic.yaml"


def settings_of(monkeypatch: pytest.MonkeyPatch, *flags: str) -> Settings:
    """What the command hands on."""
    seen: dict[str, Any] = {}

    def note(output: Path, settings: Settings, **machine: Any) -> Path:
        seen["settings"] = settings
        return output

    monkeypatch.setattr("datamodules.synthetic_faces.dataset.prepare_synthetic", note)
    parser = argparse.ArgumentParser()
    prepare.add_arguments(parser)
    assert prepare.run(parser.parse_args(["synthetic", "--output", "x", *flags])) == 0
    return seen["settings"]


def test_every_setting_has_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_of(monkeypatch, "--clips", "24") == Settings(24)
    given = settings_of(
        monkeypatch, "--clips", "48", "--size", "64", "--seed", "3", "--domain", "plain", "--identities", "5",
        "--seconds", "1", "2.5", "--draws", "4", "--long-clips", "2", "--twins", "--intensity", "speech",
        "--style", "identity", "--camera", "moving", "--dense",
    )  # fmt: skip
    assert given == Settings(
        48, 64, 3, "plain", (1.0, 2.5), 5, 4, 2, True, "speech", "identity", "moving", True
    )


def test_data_module_and_config_have_the_same_defaults() -> None:
    module = SyntheticDataModule("x", 128, clips=64, task="frame_pairs", batch_size=2)
    assert module.settings == Settings(64)
    config = OmegaConf.load(CONFIG)
    for name in (
        "draws",
        "long_clips",
        "twins",
        "intensity",
        "style",
        "camera",
        "domain",
        "identities",
        "dense",
    ):
        assert config[name] == getattr(Settings(64), name), name
    assert tuple(config.seconds) == Settings(64).seconds


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["folder", "--raw", "absent"], "no such folder"),
        (["hdtf", "--raw", "raw", "--annotations", "raw"], "none of HDTF's annotation files"),
        (["voxceleb", "--raw", "raw"], "give the folder of VoxCeleb"),
        (["folder", "--raw", "raw", "--size", "33"], "even number"),
        (["folder", "--raw", "raw", "--shard", "3/2"], "I/N"),
        (["folder", "--raw", "raw", "--workers", "0"], "at least one process"),
        (["folder", "--raw", "."], "lies in the folder of the raw videos"),
        (["hdtf", "--raw", "raw", "--annotations", "raw", "--download", "--shard", "1/2"], "without --shard"),
        (["folder", "--raw", "raw"], "no videos in it"),
    ],
)
def test_wrong_input_is_refused_in_one_line(
    tmp_path: Path, monkeypatch, capsys, words: list[str], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    assert main(["prepare", *words, "--output", "out"]) == 2
    told = capsys.readouterr().err
    assert reason in told
    assert "Traceback" not in told
    assert not (tmp_path / "out").exists()
