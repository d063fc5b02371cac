"""What a synthetic dataset depends on: the settings that its folder keeps, checked."""

from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from datamodules.batches import FPS
from datamodules.errors import UserError
from datamodules.synthetic_faces.identity import DOMAINS
from datamodules.synthetic_faces.speech.recorded import recordings_digest

VERSION = 5  # raised whenever the same settings give other clips
SIZES = (32, 1024)
MIN_IDENTITIES = 3  # one for each split
LONG_SECONDS = (60.0, 75.0)
DENSE_BYTES_PER_PIXEL = 12  # mask, depth, flow and visibility of one frame
MOST_GB = 4
"""Most dense truth of a clip, which is written in one piece, and most pictures: a rendering process holds them twice."""


def _setting(meaning: str, default: Any = MISSING, **metadata: Any) -> Any:
    return field(default=default, metadata={"help": meaning, **metadata})


@dataclass(frozen=True)
class Settings:
    """Everything the clips of a dataset depend on; what each setting means is its help.

    Two datasets of the same settings hold the same bytes. ``identities``: by default one for every five speeches.
    """

    clips: int = _setting("number of clips without twins, at least 3")
    size: int = _setting("edge of the frames in pixels, an even number", 128)
    seed: int = _setting("another seed gives other heads, sentences and motion", 0)
    domain: str = _setting(
        "variety of light, background, sound and noise; plain: light fixed to the head, smooth background, clean sound",
        "wide", choices=DOMAINS,
    )  # fmt: skip
    seconds: tuple[float, float] = _setting("shortest and longest clip", (4.0, 8.0))
    identities: int | None = _setting(
        "number of heads, at least 3 (default: one for every five speeches)", None
    )
    draws: int = _setting("clips of the same head and speech that differ in motion", 1)
    long_clips: int = _setting("speeches of 60 to 75 s among them, spread over the splits", 0)
    twins: bool = _setting("clips of val and test on a second head, too, with the same motion", False)
    train_twins: float = _setting("share of the clips of train that have such a twin, too", 0.0)
    intensity: str = _setting(
        "whether what is heard tells how much somebody moves", "free", choices=("free", "speech")
    )
    style: str = _setting(
        "whether who is seen tells how somebody moves", "free", choices=("free", "identity")
    )
    camera: str = _setting("a fixed camera, or one held by hand", "still", choices=("still", "moving"))
    turns: float = _setting("share of the clips whose head also looks round, beyond the variance budget", 0.0)
    natural_voices: float = _setting(
        "share of the heads of train that speak with a natural voice (extra voices)", 0.0
    )
    recordings: str = _setting(
        "folder of recorded speech, a file for each speaker, with phones beside them or to be recognised (extra recorded)",
        "",
    )
    recorded_voices: float = _setting(
        "share of the heads of train that speak with a voice of --recordings", 0.0
    )
    dense: bool = _setting("also mask, depth and optical flow: 0.2 MB a frame at 128 pixels", False)

    @property
    def heads(self) -> int:
        """Number of identities."""
        if self.identities is not None:
            return self.identities
        return max(MIN_IDENTITIES, round(self.clips / (5 * max(self.draws, 1))))

    def check(self) -> None:
        """Refuse settings out of range.

        Raises:
            UserError: Names the setting and its range.
        """
        speeches = self.clips // max(self.draws, 1)
        longest = LONG_SECONDS[1] if self.long_clips else self.seconds[1]
        pixels = longest * FPS * self.size**2
        dense, frames = pixels * DENSE_BYTES_PER_PIXEL / 2**30, 3 * pixels / 2**30

        three, each = f"at least {MIN_IDENTITIES}", "one for each split"
        told = f"{self.seconds[0]:g} {self.seconds[1]:g}"
        large = f"more than {MOST_GB} GB; make them smaller or shorter"
        rules = [
            (self.clips >= MIN_IDENTITIES, f"clips {self.clips}: a dataset needs {three} clips, {each}"),
            (SIZES[0] <= self.size <= SIZES[1] and self.size % 2 == 0,
             f"size {self.size}: frames are {SIZES[0]} to {SIZES[1]} pixels wide, an even number"),
            (self.seed >= 0, f"seed {self.seed}: use a whole number from 0"),
            (0.2 <= self.seconds[0] <= self.seconds[1] <= 600, f"seconds {told}: 0.2 to 600 s, the shortest first"),
            (self.draws >= 1 and self.clips % self.draws == 0,
             f"draws {self.draws}: must be at least 1 and divide the {self.clips} clips"),
            (speeches >= MIN_IDENTITIES,
             f"clips {self.clips} --draws {self.draws}: that is {speeches} speeches; {three} are needed, {each}"),
            (MIN_IDENTITIES <= self.heads <= speeches,
             f"identities {self.heads}: {three} and at most one for each of the {speeches} speeches (clips / draws)"),
            (0 <= self.turns <= 1, f"turns {self.turns:g}: a share, 0 to 1"),
            (0 <= self.natural_voices <= 1, f"natural-voices {self.natural_voices:g}: a share, 0 to 1"),
            (0 <= self.recorded_voices <= 1, f"recorded-voices {self.recorded_voices:g}: a share, 0 to 1"),
            (not self.recorded_voices or bool(self.recordings),
             f"recorded-voices {self.recorded_voices:g}: give the folder of the recordings by --recordings"),
            (bool(self.recorded_voices) or not self.recordings,
             f"recordings {self.recordings}: say by --recorded-voices what share of the heads speaks with them"),
            (self.natural_voices + self.recorded_voices <= 1,
             f"recorded-voices {self.recorded_voices:g}: more than 1 together with --natural-voices {self.natural_voices:g}"),
            (not self.recorded_voices or self.intensity == "free",
             "intensity speech: is of voices whose rate and pitch are known; leave out --recorded-voices"),
            (0 <= self.train_twins <= 1, f"train-twins {self.train_twins:g}: a share, 0 to 1"),
            (not self.dense or dense <= MOST_GB,
             f"dense: clips of {longest:g} s at {self.size} pixels hold {dense:.1f} GB of dense truth each, {large}"),
            (frames <= MOST_GB, f"size {self.size}: the frames of clips of {longest:g} s take {frames:.1f} GB each, {large}"),
            (0 <= self.long_clips <= speeches,
             f"long-clips {self.long_clips}: at most the number of speeches, {speeches}"),
        ]  # fmt: skip
        for one in fields(self):
            if choices := one.metadata.get("choices"):
                value = getattr(self, one.name)
                rules.append((value in choices, f"{one.name} {value}: choose one of {', '.join(choices)}"))
        for good, problem in rules:
            if not good:
                raise UserError(f"--{problem}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the dataset's settings file; without what came later and changes no clip."""
        values = (
            {"version": VERSION} | asdict(self) | {"seconds": list(self.seconds), "identities": self.heads}
        )
        if not self.natural_voices:
            del values["natural_voices"]
        if self.recorded_voices:  # what is in the folder counts, not where it lies
            values["recordings"] = recordings_digest(Path(self.recordings))
        else:
            del values["recordings"], values["recorded_voices"]
        return values
