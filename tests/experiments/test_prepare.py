"""``ifmdm prepare``: its flags are the settings, and wrong words are refused."""

import argparse
from dataclasses import fields
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from datamodules.preparation.settings import PreparationSettings
from datamodules.synthetic import SyntheticDataModule
from datamodules.synthetic_faces.settings import Settings
from experiments import prepare

CONFIG = Path(prepare.__file__).parent / "configs" / "data" / "synthetic.yaml"


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    prepare.add_arguments(parser)
    return parser.parse_args([*words, "--output", "x"])


def test_every_setting_has_a_flag(tmp_path: Path) -> None:
    assert prepare.synthetic_settings(parsed("synthetic", "--clips", "24")) == Settings(24)
    given = parsed(
        "synthetic", "--clips", "48", "--size", "64", "--seed", "3", "--domain", "plain", "--identities", "5",
        "--seconds", "1", "2.5", "--draws", "4", "--long-clips", "2", "--twins", "--intensity", "speech",
        "--style", "identity", "--camera", "moving", "--dense", "--turns", "0.5", "--train-twins", "0.25",
        "--natural-voices", "0.75", "--recordings", "speech", "--recorded-voices", "0.5",
    )  # fmt: skip
    assert prepare.synthetic_settings(given) == Settings(
        48,
        64,
        3,
        "plain",
        (1.0, 2.5),
        5,
        4,
        2,
        True,
        0.25,
        "speech",
        "identity",
        "moving",
        0.5,
        0.75,
        "speech",
        0.5,
        True,
    )
    (tmp_path / "s.yaml").write_text("size: 256\nval: 0.3\n")
    flags = ("--size", "64", "--no-require-sound", "--settings", str(tmp_path / "s.yaml"))
    given = parsed("folder", "--raw", "raw", *flags)
    assert prepare.recording_settings(given) == PreparationSettings(size=64, val=0.3, require_sound=False)


def test_data_module_and_config_have_the_same_defaults() -> None:
    module = SyntheticDataModule("x", 128, clips=64, task="frame_pairs", batch_size=2)
    assert module.settings == Settings(64)
    config = OmegaConf.load(CONFIG)
    assert tuple(config.seconds) == Settings(64).seconds
    for name in {one.name for one in fields(Settings)} - {"clips", "size", "seed", "seconds"}:
        assert config[name] == getattr(Settings(64), name), name


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
    tmp_path: Path, monkeypatch, refused, words: list[str], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    refused(["prepare", *words, "--output", "out"], reason)
    assert not (tmp_path / "out").exists()
