"""A vectorised z-buffer for triangles in torch: spans of each triangle's rows, then one maximum per pixel.

It runs on any device, and its result depends on no chunking: every pixel value comes from additions, multiplications,
divisions and maxima alone. Values are picked with ``index_select``, several times faster than plain indexing.
"""

import dataclasses

import torch
from torch import Tensor

_ID_BITS = 24
_DEPTH_STEPS = float(1 << 30)
_BLOCK = 16384  # pixels interpolated at once on a CPU: what they need stays in its cache


@dataclasses.dataclass
class Fragments:
    """The visible surface."""

    pixel: Tensor  # ``(P,)`` flat index ``(frame * size + row) * size + column`` of each covered pixel, ascending
    values: Tensor  # ``(A, P)`` attributes interpolated with perspective
    depth: Tensor  # ``(frames * size * size,)`` inverse distance of the nearest surface; 0: there is none
    face: Tensor  # ``(P,)`` the face seen


def _ramp(counts: Tensor) -> tuple[Tensor, Tensor]:
    """For counts (2, 3): owners (0, 0, 1, 1, 1) and positions (0, 1, 0, 1, 2)."""
    owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    start = torch.cumsum(counts, 0) - counts
    return owner, torch.arange(len(owner), device=counts.device) - start.index_select(0, owner)


def rasterise(
    points: Tensor, inverse: Tensor, faces: Tensor, attributes: Tensor, corners: Tensor, size: int
) -> Fragments:
    """Draws front-facing triangles (counter-clockwise in the picture as seen, rows running down).

    Args:
        points: ``(T, V, 2)`` column and row in pixels; pixel centres lie at half numbers.
        inverse: ``(T, V)`` 1 / distance along the camera axis, in (0, 1).
        faces: ``(F, 3)`` vertex indices.
        attributes: ``(T, V, A)`` per vertex.
        corners: ``(F, 3, B)`` per corner of a face.
        size: side of the picture in pixels.

    Returns:
        Fragments with ``A + B`` values, the vertex attributes first.
    """
    t = _visible_triangles(points, inverse, faces, size)
    pixel, owner, q = _cover(t, size)
    count = len(points) * size * size
    # The nearest wins; of equally near ones the first in the list, which is sorted by frame and face.
    last = (1 << _ID_BITS) - 1
    key = ((q * _DEPTH_STEPS).to(torch.int64) << _ID_BITS) | (last - owner)
    best = torch.zeros(count, dtype=torch.int64, device=points.device).scatter_reduce_(0, pixel, key, "amax")
    seen = torch.nonzero(best)[:, 0]
    winner = last - (best.index_select(0, seen) & last)
    table = _planes(t, faces, attributes, corners)
    values = _interpolate(seen, winner, table, size)
    depth = (best >> _ID_BITS).to(torch.float32) / _DEPTH_STEPS
    return Fragments(seen, values, depth, t.face.index_select(0, winner))


@dataclasses.dataclass
class _Triangles:
    """The faces that may show, sorted by frame and face."""

    frame: Tensor  # ``(N,)``
    face: Tensor  # ``(N,)``
    x: Tensor  # ``(3, N)`` corners in the picture
    y: Tensor
    q: Tensor  # ``(3, N)`` inverse distances
    a: Tensor  # ``(3, N)`` slopes of the edge functions, positive inwards; edge i lies opposite corner i
    b: Tensor
    area: Tensor  # ``(N,)`` twice the area in the picture


def _visible_triangles(points: Tensor, inverse: Tensor, faces: Tensor, size: int) -> _Triangles:
    corner = faces.t().reshape(-1)

    def at_corners(values: Tensor) -> Tensor:
        """``(3, T F)`` from values of the vertices ``(T, V)``."""
        picked = values.contiguous().index_select(1, corner).reshape(len(values), 3, -1)
        return picked.transpose(0, 1).reshape(3, -1)

    x, y = at_corners(points[..., 0]), at_corners(points[..., 1])
    area = (x[2] - x[0]) * (y[1] - y[0]) - (y[2] - y[0]) * (x[1] - x[0])
    left, top = (torch.ceil(v.amin(0) - 0.5).clamp(min=0) for v in (x, y))
    right, bottom = (torch.floor(v.amax(0) - 0.5).clamp(max=size - 1) for v in (x, y))
    chosen = torch.nonzero((area > 1e-5) & (left <= right) & (top <= bottom))[:, 0]
    frame, face = torch.div(chosen, len(faces), rounding_mode="floor"), chosen % len(faces)
    x, y, q = (v.index_select(1, chosen) for v in (x, y, at_corners(inverse)))
    # Neighbours compute the negative of the same numbers along a shared edge, so that no pixel falls between them.
    a, b = y[[2, 0, 1]] - y[[1, 2, 0]], x[[1, 2, 0]] - x[[2, 0, 1]]
    return _Triangles(frame, face, x, y, q, a, b, area.index_select(0, chosen))


def _cover(t: _Triangles, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """All (pixel, triangle) pairs with the pixel's centre inside: flat pixel, triangle and inverse distance."""
    first = torch.ceil(t.y.amin(0) - 0.5).clamp(0, size).to(torch.int64)
    last = torch.floor(t.y.amax(0) - 0.5).clamp(-1, size - 1).to(torch.int64)
    owner, step = _ramp((last - first + 1).clamp(min=0))
    row = first.index_select(0, owner) + step
    centre = row.to(torch.float32) + 0.5
    low = torch.zeros_like(centre)
    high = torch.full_like(centre, float(size - 1))
    # Along a row an edge is crossed at ``slope * centre + offset``; rising edges bound it below, falling ones above.
    x1, y1, x2, y2 = t.x[[2, 0, 1]], t.y[[2, 0, 1]], t.x[[1, 2, 0]], t.y[[1, 2, 0]]
    level = torch.where(t.a == 0, torch.ones_like(t.a), t.a)
    slope, offset = -t.b / level, (x2 * y1 - x1 * y2) / level - 0.5
    # Inverse distance is affine in the picture.
    dx = (t.a[1] * (t.q[1] - t.q[0]) + t.a[2] * (t.q[2] - t.q[0])) / t.area
    dy = (t.b[1] * (t.q[1] - t.q[0]) + t.b[2] * (t.q[2] - t.q[0])) / t.area
    table = torch.cat([t.a, slope, offset, torch.stack([dx, dy, t.q[0], t.x[0], t.y[0]])])
    at_row = table.t().contiguous().index_select(0, owner).t().contiguous()
    for a, s, o in zip(at_row[:3], at_row[3:6], at_row[6:9], strict=True):
        bound = s * centre + o
        low = torch.where(a > 0, torch.maximum(low, torch.ceil(bound)), low)
        high = torch.where(a < 0, torch.minimum(high, torch.floor(bound)), high)
    dx, dy, q0, x0, y0 = at_row[9:]
    depth = q0 + (centre - y0) * dy + (low + 0.5 - x0) * dx
    counts = (high - low + 1).clamp(min=0).to(torch.int64)
    span, along = _ramp(counts)
    base = (t.frame.index_select(0, owner) * size + row) * size + low.to(torch.int64)
    depth = depth.index_select(0, span) + along.to(torch.float32) * dx.index_select(0, span)
    return base.index_select(0, span) + along, owner.index_select(0, span), depth.clamp(1e-6, 0.999)


def _planes(t: _Triangles, faces: Tensor, attributes: Tensor, corners: Tensor) -> Tensor:
    """Attributes over distance as affine functions of the picture.

    Returns:
        ``(N, 2 + 3 (1 + A))``: column and row of the first corner, the values there, and their slopes along columns and
        along rows; the first value is the inverse distance alone, the others are the attributes times it.
    """
    flat = attributes.flatten(0, 1)
    vertex = faces.index_select(0, t.face) + (t.frame * attributes.shape[1])[:, None]
    own = corners.index_select(0, t.face)
    weighted = []
    for i in range(3):
        q = t.q[i][:, None]
        weighted.append(torch.cat([q, flat.index_select(0, vertex[:, i]) * q, own[:, i] * q], dim=1))
    w0, d1, d2 = weighted[0], weighted[1] - weighted[0], weighted[2] - weighted[0]
    a1, a2, b1, b2, area = (v[:, None] for v in (t.a[1], t.a[2], t.b[1], t.b[2], t.area))
    along, down = (a1 * d1 + a2 * d2) / area, (b1 * d1 + b2 * d2) / area
    return torch.cat([t.x[0][:, None], t.y[0][:, None], w0, along, down], dim=1)


def _interpolate(pixel: Tensor, triangle: Tensor, planes: Tensor, size: int) -> Tensor:
    """Attributes ``(A, P)`` at the pixels from the ``planes`` of the triangles seen there, with perspective."""
    count = (planes.shape[1] - 2) // 3
    column = (pixel % size).to(torch.float32) + 0.5
    row = (torch.div(pixel, size, rounding_mode="floor") % size).to(torch.float32) + 0.5
    result = torch.empty(count - 1, len(pixel), device=planes.device)
    step = _BLOCK if planes.device.type == "cpu" else max(1, len(pixel))
    for start in range(0, len(pixel), step):
        here = slice(start, start + step)
        picked = planes.index_select(0, triangle[here]).t().contiguous()
        value = picked[2 + count : 2 + 2 * count] * (column[here] - picked[0])
        value += picked[2 + 2 * count :] * (row[here] - picked[1])
        value += picked[2 : 2 + count]
        result[:, here] = value[1:] / value[0]
    return result
