"""Named landmarks of the head, each a vertex of the mesh, and what is measured on them."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from datamodules.synthetic_faces.mesh.fields import SIDES
from datamodules.synthetic_faces.mesh.rig import Rig

# Left and right are the person's. Contours run as seen in the image: clockwise, from the corner at image left.
_EYE = (
    "corner_outer", "upper_outer", "upper_middle", "upper_inner", "corner_inner",
    "lower_inner", "lower_middle", "lower_outer",
)  # fmt: skip
_ROUND = (0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25)
"""Places of eight points round an opening, shares of its length; the first five lie on its upper edge."""
LANDMARK_NAMES: list[str] = [
    *(f"lips_outer_{i}" for i in range(12)),
    *(f"lips_inner_{i}" for i in range(8)),
    *(f"right_eye_{n}" for n in _EYE),
    *(f"left_eye_{n}" for n in _EYE),
    "right_pupil", "left_pupil",
    *(f"right_brow_{i}" for i in range(5)),
    *(f"left_brow_{i}" for i in range(5)),
    *(f"nose_bridge_{i}" for i in range(4)),
    "nose_tip",
    *(f"nose_base_{i}" for i in range(5)),
    *(f"jaw_{i}" for i in range(17)),
    *(f"forehead_{i}" for i in range(5)),
]  # fmt: skip

REGIONS = {
    "mouth": ("lips",),
    "left_eye": ("left_eye", "left_pupil"),
    "right_eye": ("right_eye", "right_pupil"),
}
REGION_MARGIN = 0.45  # of the region's width, on each side


def landmark_numbers(*prefixes: str) -> list[int]:
    """Places in ``LANDMARK_NAMES`` of the names that begin so."""
    return [i for i, name in enumerate(LANDMARK_NAMES) if name.startswith(prefixes)]


def landmark_vertices(rig: Rig) -> np.ndarray:
    """Vertex ``(L,)`` of each landmark."""
    skin, m = rig.skin, rig.proportions
    found: dict[str, int] = {}
    found.update(_outline("lips_inner_{}", range(8), skin.index, skin.mouth_rows, skin.mouth_columns))
    shares = np.linspace(-1, 1, 7)
    for i, share in enumerate((*shares, *shares[-2:0:-1])):
        x, above = np.array(share * m.mouth_half), i < len(shares)
        y = m.mouth_line(x) + 0.9 * m.upper_lip(x) if above else m.mouth_line(x) - 0.9 * m.lower_lip(x)
        found[f"lips_outer_{i}"] = _nearest(rig, float(x), float(y), above=above)
    right, left = skin.eye_columns
    for (eye, sign), inwards in zip(SIDES, (right, left[::-1]), strict=True):  # from the outer corner
        found.update(_outline(f"{eye}_eye_{{}}", _EYE, skin.index, skin.eye_rows, inwards))
        found[f"{eye}_pupil"] = rig.first[f"{eye}_eye"]
        for i, share in enumerate(np.linspace(0, 1, 5)[::sign]):
            brow = sign * (m.brow_inner + share * (m.brow_outer - m.brow_inner))
            found[f"{eye}_brow_{i}"] = _nearest(rig, brow, float(m.brow_line(np.array(brow))[0]))
    for i, y in enumerate(np.linspace(m.eye_y + 0.05, m.nose_y + 0.16, 4)):
        found[f"nose_bridge_{i}"] = _nearest(rig, 0.0, float(y))
    found["nose_tip"] = _nearest(rig, 0.0, m.nose_y + 0.09)
    for i, share in enumerate((-1, -0.5, 0, 0.5, 1)):
        height = m.nose_y + (0.03 if abs(share) == 1 else 0.0)
        found[f"nose_base_{i}"] = _nearest(rig, share * m.nose_width, height)
    chin = int(np.argmin(np.abs(skin.points[:, skin.points.shape[1] // 2, 1] - (m.chin_y + 0.015))))
    azimuth = np.arctan2(skin.points[chin, :, 0], skin.points[chin, :, 2])
    for i, a in enumerate(np.deg2rad(np.linspace(-86, 86, 17))):
        found[f"jaw_{i}"] = int(skin.index[chin, np.argmin(np.abs(azimuth - a))])
    for i, side in enumerate((-0.55, -0.3, 0.0, 0.3, 0.55)):
        found[f"forehead_{i}"] = _nearest(rig, side, 0.615 - 0.5 * side * side)
    return np.array([found[name] for name in LANDMARK_NAMES])


def _outline(
    pattern: str, names: Iterable, index: np.ndarray, rows: tuple[int, int], columns: np.ndarray
) -> dict[str, int]:
    """Vertices of eight points round an opening between two rows of the skin."""
    upper, lower = rows
    across = columns[[round(share * (len(columns) - 1)) for share in _ROUND]]
    found = index[[upper] * 5 + [lower] * 3, across].tolist()
    return {pattern.format(name): vertex for name, vertex in zip(names, found, strict=True)}


def _nearest(rig: Rig, x: float, y: float, above: bool | None = None) -> int:
    vertices = rig.skin.part.vertices
    distance = np.hypot(vertices[:, 0] - x, vertices[:, 1] - y) + 10.0 * (vertices[:, 2] < 0)
    if above is not None:
        distance = distance + 10.0 * ((rig.skin.side > 0) != above)
    return int(np.argmin(distance))


def _distance(points: Tensor, first: str, second: str) -> Tensor:
    d = points[:, LANDMARK_NAMES.index(first)] - points[:, LANDMARK_NAMES.index(second)]
    return torch.sqrt(d[:, 0] * d[:, 0] + d[:, 1] * d[:, 1] + d[:, 2] * d[:, 2])


def lip_measures(points: Tensor) -> tuple[Tensor, Tensor]:
    """Gap between the inner lips and distance of their corners ``(T,)``, over the distance of the eyes' outer corners.

    ``points`` are ``(T, L, 3)`` landmarks in head space, before the pose.
    """
    unit = _distance(points, "right_eye_corner_outer", "left_eye_corner_outer")
    opening, width = (_distance(points, f"lips_inner_{a}", f"lips_inner_{b}") for a, b in ((2, 6), (0, 4)))
    return opening / unit, width / unit


def region_boxes(points: np.ndarray) -> np.ndarray:
    """Boxes ``(T, 3, 4)`` x0, y0, x1, y1 in [0, 1] round mouth, left and right eye, of landmarks ``(T, L, 2)``."""
    boxes = []
    for prefixes in REGIONS.values():
        chosen = points[:, landmark_numbers(*prefixes)]
        low, high = chosen.min(axis=1), chosen.max(axis=1)
        margin = REGION_MARGIN * (high - low)[:, :1] * np.array([[0.5, 1.0]])
        boxes.append(np.concatenate([low - margin * 0.8, high + margin * 0.8], axis=1))
    return np.clip(np.stack(boxes, axis=1), 0, 1).astype(np.float32)
