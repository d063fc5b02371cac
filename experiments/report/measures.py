"""What a reader is told of each measure."""

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from metrics.protocol import MEASURES

BEST = "mouth_lmd_best"
"""Measure whose name in results ends with the number of seeds."""


@dataclass(frozen=True)
class Measure:
    """A measure as the report shows it.

    Attributes:
        name: In results, where the method has it.
        title: In words.
        unit: Short; "%" for shares; empty where it has none.
        meaning: One sentence.
        aligned: Compares frame with frame: of a model it judges its autoencoder.
    """

    name: str
    title: str
    unit: str = ""
    meaning: str = ""
    aligned: bool = False

    @property
    def coded_title(self) -> str:
        """The title with the name in results, where that is another word."""
        same = self.title.lower() == self.name.replace("_", "-")
        return self.title if same else f"{self.title} ({self.name})"

    @property
    def headed(self) -> str:
        """The title with the unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def name_of(self, row: str, videos: bool) -> str:
        """Name in results of a row's value.

        Args:
            row: Such as ``real``.
            videos: Whether the results are of anyone's videos, not of a model.
        """
        home = "autoencoder" if self.aligned and not videos else "generated"
        return self.name if row == home else f"{self.name}_{row}"


@functools.cache
def known_measures() -> dict[str, Measure]:
    """All measures that are explained, in the order of the report."""
    texts = yaml.safe_load((Path(__file__).parent / "measures.yaml").read_text(encoding="utf-8"))
    return {
        name: Measure(name, text["title"], text["unit"], text["says"],
                      name in MEASURES and MEASURES[name].family == "reconstruction")
        for name, text in texts.items()
    }  # fmt: skip


def measures_of(names: Collection[str], protocol: Mapping[str, Any]) -> list[Measure]:
    """The known measures, under the names and in the units of these results.

    Args:
        names: Of the values.
        protocol: Of the results; jitter has another unit where its judge of motion finds landmarks.
    """
    motion = (protocol.get("settings") or {}).get("motion") or {}
    found = []
    for one in known_measures().values():
        if one.name == BEST:
            one = replace(one, name=next((name for name in names if name.startswith(BEST)), BEST))
        if one.name == "jitter" and "landmarks" in motion:
            one = replace(one, unit="eye distances")
        found.append(one)
    return found
