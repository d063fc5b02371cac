"""Settings of the preparation: ranges, and files that name them."""

from pathlib import Path

import pytest

from datamodules.errors import UserError
from datamodules.preparation.settings import PreparationSettings, read_settings


def test_defaults_are_in_range_and_every_setting_says_what_it_means() -> None:
    settings = PreparationSettings()
    settings.check()
    assert settings.to_dict() == {"version": 2} | {
        name: getattr(settings, name) for name in PreparationSettings.__dataclass_fields__
    }
    assert all(one.metadata["help"] for one in PreparationSettings.__dataclass_fields__.values())


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"size": 33}, "even number"), ({"size": 4096}, "even number"), ({"min_tracked": 1.5}, "a share"),
        ({"min_seconds": 9.0, "max_seconds": 3.0}, "twice the shortest"), ({"min_face": -1.0}, "pixels"),
        ({"min_seconds": 5.0, "max_seconds": 8.0}, "twice the shortest"), ({"val": 0.6, "test": 0.4}, "nothing is left"),
        ({"min_seconds": float("nan")}, "twice the shortest"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(values: dict, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        PreparationSettings(**values).check()


def test_a_file_names_settings(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("size: 256\nmin_seconds: 2\nrequire_sound: false\n")
    found = read_settings(path)
    assert found == {"size": 256, "min_seconds": 2.0, "require_sound": False}
    assert isinstance(found["min_seconds"], float)
