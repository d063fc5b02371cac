"""What one clip says at one point of a sweep: kept in a file each, so that a sweep that was killed goes on."""

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from experiments.results import write_whole
from metrics.evaluation.clip_results import ClipResult
from metrics.evaluation.clips import ClipFiles

FORMAT = 5
"""Version of the files; raised when what they hold, or how it is measured, changes."""
Arrays = dict[str, np.ndarray]


@dataclass
class Record:
    """A clip at a point.

    Attributes:
        values: Measures by name, bare for the point's, ``NAME_real`` for the real clip's.
        lips: Lip opening ``(T,)`` of each take, and of the real clip under ``real``.
        distributions: What each take adds to the distributions, by measure; of the real clip likewise.
        features: Features ``(N, D)`` of the judges of pictures for all clips at once, by slot, of each take.
        stds: ``requested``, ``sampled`` and ``rendered`` std ``(S, W, M)`` of each seed's windows, where they are asked for.
    """

    values: dict[str, float]
    lips: dict[str, list[np.ndarray]]
    distributions: dict[str, list[Arrays]]
    features: list[Arrays] = field(default_factory=list)
    stds: Arrays = field(default_factory=dict)

    def result(self, files: ClipFiles) -> ClipResult:
        """As a clip's result, for aggregation."""
        return ClipResult(files, self.lips, values=self.values, distributions=self.distributions)

    def save(self, path: Path) -> None:
        """Write the file in one step."""
        arrays = {"values": np.array(json.dumps(self.values))}
        for row, takes in self.lips.items():
            arrays |= {f"lips/{row}/{take}": lips for take, lips in enumerate(takes)}
        for row, parts in self.distributions.items():
            for take, found in enumerate(parts):
                arrays |= {f"distributions/{row}/{take}/{name}": rows for name, rows in found.items()}
        for take, found in enumerate(self.features):
            arrays |= {f"features/{take}/{kind}": rows for kind, rows in found.items()}
        arrays |= {f"stds/{name}": std for name, std in self.stds.items()}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        write_whole(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path, features: bool = False) -> "Record | None":
        """Read a file; None where there is none, or a damaged one. Features, which may be large, only if asked for."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                return cls._of_arrays(
                    {name: archive[name] for name in archive if features or name[:9] != "features/"}
                )
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return None

    @classmethod
    def _of_arrays(cls, arrays: Arrays) -> "Record":
        record = cls(json.loads(str(arrays.pop("values"))), {}, {})
        for name, array in arrays.items():
            kind, first, *rest = name.split("/")
            if kind == "lips":
                record.lips.setdefault(first, []).append(array)
            elif kind == "distributions":
                _place(record.distributions.setdefault(first, []), int(rest[0]))[rest[1]] = array
            elif kind == "features":
                _place(record.features, int(first))[rest[0]] = array
            else:
                record.stds[first] = array
        if record.features:
            _place(record.features, sum(map(len, record.lips.values())) - 1)
        return record


def _place(takes: list[Arrays], take: int) -> Arrays:
    """The arrays of a take; those before it may have none."""
    while take >= len(takes):
        takes.append({})
    return takes[take]
