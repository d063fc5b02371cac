"""What prepared clips depend on besides the videos, checked."""

from dataclasses import asdict, dataclass
from typing import Any

from datamodules.errors import UserError

VERSION = 1
"""Raised whenever the same settings give other clips."""
SIZES = (64, 1024)


@dataclass(frozen=True)
class PreparationSettings:
    """How videos are cut, and which clips are kept.

    Attributes:
        size: edge of the square frames in pixels, an even number.
        min_seconds: shorter clips are rejected.
        max_seconds: longer shots are cut into clips of equal length.
        min_face: least median side of the landmark box in pixels of the source.
        min_tracked: least share of a clip's frames in which the face was seen.
        max_company: most of a clip's frames in which another large face is in the picture.
        min_sharpness: least sharpness of the face, see ``quality.sharpness``.
        max_outside: most of a crop's area that may lie outside the picture.
        require_sound: whether clips without a sound track, and silent ones, are rejected.
        min_loudness: a clip that is quieter is silent; dB of full scale.
        published_crops: cut the crops that a dataset lists, where it lists one, in place of the tracked face's.
        val: share of the identities that are for validation, where the dataset says nothing.
        test: the same for the test.
        seed: another seed assigns identities to other splits.
    """

    size: int = 512
    min_seconds: float = 3.0
    max_seconds: float = 20.0
    min_face: float = 80.0
    min_tracked: float = 0.95
    max_company: float = 0.2
    min_sharpness: float = 4.0
    max_outside: float = 0.15
    require_sound: bool = True
    min_loudness: float = -55.0
    published_crops: bool = True
    val: float = 0.1
    test: float = 0.1
    seed: int = 0

    def check(self) -> None:
        """Refuses settings out of range.

        Raises:
            UserError: names the setting and its range.
        """
        shares = ("min_tracked", "max_company", "max_outside", "val", "test")
        checks = [
            (
                SIZES[0] <= self.size <= SIZES[1] and self.size % 2 == 0,
                f"size {self.size}: frames are {SIZES[0]} to {SIZES[1]} pixels wide, an even number",
            ),
            (
                0.2 <= self.min_seconds <= self.max_seconds <= 600,
                f"min_seconds {self.min_seconds:g}, max_seconds {self.max_seconds:g}: 0.2 to 600 s, the shortest first",
            ),
            *(
                (0 <= getattr(self, name) <= 1, f"{name} {getattr(self, name):g}: a share from 0 to 1")
                for name in shares
            ),
            (
                self.val + self.test < 1,
                f"val {self.val:g} and test {self.test:g}: nothing is left for training",
            ),
            (self.min_face >= 0, f"min_face {self.min_face:g}: pixels, from 0"),
        ]
        for good, problem in checks:
            if not good:
                raise UserError(problem)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the dataset's settings file."""
        return {"version": VERSION} | asdict(self)
