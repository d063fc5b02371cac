"""What prepared clips depend on besides the videos, checked."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datamodules.errors import UserError
from datamodules.files import parse_plain_yaml, read_bounded, require_file

VERSION = 2
"""Raised whenever the same settings give other clips."""
SIZES = (64, 1024)
MAX_BYTES = 64 * 1024
"""Of a settings file."""
OF_LISTS = ("val", "test", "seed")
"""The settings that clips don't depend on, only the lists of them."""


def _setting(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class PreparationSettings:
    """How videos are cut, and which clips are kept; what each setting means is its help."""

    size: int = _setting(512, "edge of the square frames in pixels, an even number")
    min_seconds: float = _setting(3.0, "shorter clips are rejected")
    max_seconds: float = _setting(20.0, "longer shots are cut into clips of equal length")
    min_face: float = _setting(80.0, "least median side of the face's landmark box, in pixels of the source")
    min_tracked: float = _setting(0.95, "least share of a clip's frames in which the face is seen")
    max_company: float = _setting(
        0.2, "most of a clip's frames in which another large face is in the picture"
    )
    min_sharpness: float = _setting(4.0, "least sharpness of the face (see quality.sharpness)")
    max_outside: float = _setting(0.15, "most of a crop's area that may lie outside the picture")
    max_cut: float = _setting(0.15, "most of the face's landmark box that may lie outside the picture")
    require_sound: bool = _setting(
        True,
        "reject clips without usable sound, and silent ones; else they are kept without it, for stage 1",
    )
    min_loudness: float = _setting(-55.0, "a clip that is quieter is silent, in dB of full scale")
    published_crops: bool = _setting(True, "cut the crops that a dataset lists, where it lists one")
    val: float = _setting(0.1, "share of the identities for validation, where the dataset says nothing")
    test: float = _setting(0.1, "share of the identities for the test, where the dataset says nothing")
    seed: int = _setting(0, "another seed assigns identities to other splits")

    def check(self) -> None:
        """UserError where a setting is out of range."""

        def require(good: bool, problem: str) -> None:
            if not good:
                raise UserError(problem)

        told = f"frames are {SIZES[0]} to {SIZES[1]} pixels wide, an even number"
        require(SIZES[0] <= self.size <= SIZES[1] and self.size % 2 == 0, f"size {self.size}: {told}")
        told = f"min_seconds {self.min_seconds:g}, max_seconds {self.max_seconds:g}: 0.2 to 3600 s"
        told = f"{told}, the longest twice the shortest or more, so that any length can be cut"
        require(0.2 <= self.min_seconds <= self.max_seconds / 2 <= 1800, told)
        for name in ("min_tracked", "max_company", "max_outside", "max_cut", "val", "test"):
            require(0 <= getattr(self, name) <= 1, f"{name} {getattr(self, name):g}: a share from 0 to 1")
        told = f"val {self.val:g} and test {self.test:g}: nothing is left for training"
        require(self.val + self.test < 1, told)
        require(self.min_face >= 0, f"min_face {self.min_face:g}: pixels, from 0")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the dataset's settings file."""
        return {"version": VERSION} | asdict(self)


def read_settings(path: Path) -> dict[str, Any]:
    """Settings named in a YAML file, as plain values; UserError where a name or the type of a value is none of a setting."""
    try:
        found = parse_plain_yaml(read_bounded(require_file(path, "settings"), MAX_BYTES))
    except ValueError as error:
        raise UserError(f"{path}: is no YAML file of settings ({str(error).splitlines()[0]})") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: expected lines of NAME: VALUE")
    types: dict[str, type] = {name: type(value) for name, value in asdict(PreparationSettings()).items()}
    for name, value in found.items():
        if name not in types:
            raise UserError(f"{path}: no setting is called {name}; there are: {', '.join(types)}")
        whole = types[name] is float and type(value) is int and abs(value) < 2**64
        if (float if whole else type(value)) is not types[name]:
            raise UserError(f"{path}: {name} is {value!r:.80}, expected a {types[name].__name__}")
    return {name: types[name](value) for name, value in found.items()}
