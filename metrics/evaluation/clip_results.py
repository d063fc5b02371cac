"""What is kept of a clip once its frames are gone, and the rows that it has."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from metrics.av_correlation import SpokenClip
from metrics.evaluation.clips import ClipFiles, ForeignSpeech, Missing
from metrics.evaluation.registry import MEASURES, is_lag

SPEECH_ROWS = ("real", "codec", "autoencoder", "generated", "swapped")
"""Rows whose lips are held against speech: a still picture has none."""


@dataclass(frozen=True)
class RowFamilies:
    """Which rows are judged by which of the two families of measures that never mix."""

    reconstruction: tuple[str, ...]
    generation: tuple[str, ...]
    reconstructed: str = "generated"  # row whose measures of reconstruction have bare names

    def name(self, measure: str, row: str) -> str:
        """Name of a row's measure in results: bare for the row it is meant for, else with the row's name."""
        known = MEASURES.get(measure)
        of_pairs = known is not None and known.family == "reconstruction"
        return measure if row == (self.reconstructed if of_pairs else "generated") else f"{measure}_{row}"


_VIDEO_ROWS = ("codec", "autoencoder", "generated", "still")
ROW_FAMILIES = {
    "generation": RowFamilies((), _VIDEO_ROWS),
    "reconstruction": RowFamilies(_VIDEO_ROWS, ()),
    "free": RowFamilies((), ("generated", "still")),
    "model": RowFamilies(("codec", "still", "autoencoder"), (*_VIDEO_ROWS, "swapped"), "autoencoder"),
}
"""Anyone's videos are judged by one family, by their task; of a model, measures of reconstruction judge its autoencoder,
never its free generation."""


@dataclass
class ClipResult:
    """What a clip's rows say."""

    files: ClipFiles
    lips: dict[str, list[np.ndarray]]  # row -> lip opening (T,) of each take
    # Real lips and sound at their own length, which the regressions of other clips are fitted on, so that a method's video
    # that is shorter by a frame does not move the values of the others; None without sound.
    spoken: SpokenClip | None = None
    # speech of another voice, which the takes are held against and the row swapped was made from, if any
    foreign: ForeignSpeech | None = None
    # measures by name; bare for the method, NAME_ROW for other rows
    values: dict[str, float] = field(default_factory=dict)
    # row -> what each take adds to the distributions that are compared over all clips, by measure
    distributions: dict[str, list[dict[str, np.ndarray]]] = field(default_factory=dict)
    fitted: int = 0  # number of clips that the regression from speech to lips was fitted on, once it was
    # squared errors of regions, which are pooled over clips before a share is formed
    region_sums: dict[str, float] = field(default_factory=dict)
    # row -> correlation with the true lips at every lag
    lag_curves: dict[str, np.ndarray] = field(default_factory=dict)
    resized: str = ""  # from and to which size the takes were resized; empty: they were not
    missing: list[Missing] = field(default_factory=list)  # what of it could not be judged


def mean_over_takes(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """Each measure of one clip from those of its takes: their mean, of a lag the median."""
    names = found[0] if found else ()
    return {
        name: float((np.median if is_lag(name) else np.mean)([one[name] for one in found])) for name in names
    }


def suffix(row: str) -> str:
    """What is put behind the name of a measure of a row."""
    return "" if row == "generated" else f"_{row}"
