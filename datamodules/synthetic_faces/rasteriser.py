"""A vectorised z-buffer for triangles in torch: spans of each triangle's rows, then one maximum per pixel.

It runs on any device, and its result depends on no chunking: every pixel value comes from additions, multiplications,
divisions and maxima alone.
"""

import dataclasses

import torch
from torch import Tensor

_ID_BITS = 20
_DEPTH_STEPS = float(1 << 30)


@dataclasses.dataclass
class Fragments:
    """The visible surface.

    Attributes:
        pixel: ``(P,)`` flat index ``(frame * height + row) * width + column`` of each covered pixel, ascending.
        values: ``(A, P)`` attributes interpolated with perspective.
        depth: ``(frames * height * width,)`` inverse distance of the nearest surface, 0 where there is none.
        face: ``(P,)`` the face seen.
    """

    pixel: Tensor
    values: Tensor
    depth: Tensor
    face: Tensor


def _ramp(counts: Tensor) -> tuple[Tensor, Tensor]:
    """For counts (2, 3): owners (0, 0, 1, 1, 1) and positions (0, 1, 0, 1, 2)."""
    owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    start = torch.cumsum(counts, 0) - counts
    return owner, torch.arange(len(owner), device=counts.device) - start[owner]


def rasterise(
    points: Tensor,
    inverse: Tensor,
    faces: Tensor,
    attributes: Tensor,
    corners: Tensor,
    height: int,
    width: int,
) -> Fragments:
    """Draws front-facing triangles (counter-clockwise in the picture as seen, rows running down).

    Args:
        points: ``(T, V, 2)`` column and row in pixels; pixel centres lie at half numbers.
        inverse: ``(T, V)`` 1 / distance along the camera axis, in (0, 1).
        faces: ``(F, 3)`` vertex indices.
        attributes: ``(T, V, A)`` per vertex.
        corners: ``(F, 3, B)`` per corner of a face.
        height: of the picture in pixels.
        width: of the picture in pixels.

    Returns:
        Fragments with ``A + B`` values, the vertex attributes first.
    """
    frame, face, xy = _visible_faces(points, faces, height, width)
    edges = _edges(xy)
    pixel, owner, q = _cover(
        frame, xy, edges, _corner_values(inverse[..., None], frame, faces[face])[..., 0], height, width
    )
    count = len(points) * height * width
    key = ((q * _DEPTH_STEPS).to(torch.int64) << _ID_BITS) | ((1 << _ID_BITS) - 1 - face[owner])
    best = torch.zeros(count, dtype=torch.int64, device=points.device).scatter_reduce_(0, pixel, key, "amax")
    seen = torch.nonzero(best)[:, 0]
    # The winner's place in the list of drawn faces: (frame, face) is unique there and sorted.
    winner = ((1 << _ID_BITS) - 1) - (best[seen] & ((1 << _ID_BITS) - 1))
    slot = torch.full((len(points) * len(faces),), 0, dtype=torch.int64, device=points.device)
    slot[frame * len(faces) + face] = torch.arange(len(face), device=points.device)
    row = slot[torch.div(seen, height * width, rounding_mode="floor") * len(faces) + winner]
    per_corner = torch.cat([_corner_values(attributes, frame, faces[face]), corners[face]], dim=-1)
    q3 = _corner_values(inverse[..., None], frame, faces[face])[..., 0]
    values = _interpolate(seen, row, xy, edges, q3, per_corner, height, width)
    depth = (best >> _ID_BITS).to(torch.float32) / _DEPTH_STEPS
    return Fragments(seen, values, depth, winner)


def _corner_values(values: Tensor, frame: Tensor, corner: Tensor) -> Tensor:
    """Picks ``values (T, V, A)`` at faces' corners: ``(N, 3, A)``."""
    flat = values.reshape(-1, values.shape[-1])
    return flat[frame[:, None] * values.shape[1] + corner]


def _visible_faces(points: Tensor, faces: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Frames, faces and corner positions ``(N, 3, 2)``, wound for positive area, of the faces that may show."""
    xy = points[:, faces]  # (T, F, 3, 2)
    a, b, c = xy[:, :, 0], xy[:, :, 1], xy[:, :, 2]
    area = (c[..., 0] - a[..., 0]) * (b[..., 1] - a[..., 1]) - (c[..., 1] - a[..., 1]) * (
        b[..., 0] - a[..., 0]
    )
    low, high = torch.minimum(torch.minimum(a, b), c), torch.maximum(torch.maximum(a, b), c)
    inside = (
        (high[..., 0] >= 0.5)
        & (high[..., 1] >= 0.5)
        & (low[..., 0] <= width - 0.5)
        & (low[..., 1] <= height - 0.5)
    )
    crosses = (torch.ceil(low - 0.5) <= torch.floor(high - 0.5)).all(dim=-1)
    chosen = torch.nonzero((area > 1e-5) & inside & crosses)
    frame, face = chosen[:, 0], chosen[:, 1]
    return frame, face, xy[frame, face]


def _edges(xy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Edge functions ``a x + b y + c >= 0`` inside, each ``(N, 3)``; edge i lies opposite corner i.

    Neighbours compute the negative of the same numbers along a shared edge, so that no pixel falls between them.
    """
    x, y = xy[..., 0], xy[..., 1]
    x1, y1 = x[:, [2, 0, 1]], y[:, [2, 0, 1]]
    x2, y2 = x[:, [1, 2, 0]], y[:, [1, 2, 0]]
    return y1 - y2, x2 - x1, x1 * y2 - x2 * y1


def _cover(
    frame: Tensor, xy: Tensor, edges: tuple[Tensor, Tensor, Tensor], q: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """All (pixel, face) pairs with the pixel's centre inside: flat pixel, owner and inverse distance."""
    first = torch.ceil(xy[..., 1].amin(1) - 0.5).clamp(0, height).to(torch.int64)
    last = torch.floor(xy[..., 1].amax(1) - 0.5).clamp(-1, height - 1).to(torch.int64)
    owner, step = _ramp((last - first + 1).clamp(min=0))
    row = first[owner] + step
    centre = row.to(torch.float32) + 0.5
    low = torch.full_like(centre, 0.0)
    high = torch.full_like(centre, float(width - 1))
    for i in range(3):
        a = edges[0][:, i][owner]
        rest = edges[1][:, i][owner] * centre + edges[2][:, i][owner]
        bound = -rest / a - 0.5
        low = torch.where(a > 0, torch.maximum(low, torch.ceil(bound)), low)
        high = torch.where(a < 0, torch.minimum(high, torch.floor(bound)), high)
        high = torch.where((a == 0) & (rest < 0), torch.full_like(high, -1.0), high)
    counts = (high - low + 1).clamp(min=0).to(torch.int64)
    span, along = _ramp(counts)
    column = low.to(torch.int64)[span] + along
    face = owner[span]
    # Inverse distance is affine in the picture.
    area = _area(xy)
    dx = (edges[0] * q).sum(1) / area
    dy = (edges[1] * q).sum(1) / area
    at_row = (
        q[:, 0][owner] + (centre - xy[:, 0, 1][owner]) * dy[owner] + (0.5 - xy[:, 0, 0][owner]) * dx[owner]
    )
    depth = at_row[span] + column.to(torch.float32) * dx[face]
    pixel = ((frame[owner] * height + row) * width)[span] + column
    return pixel, face, depth.clamp(1e-6, 0.999)


def _area(xy: Tensor) -> Tensor:
    a, b, c = xy[:, 0], xy[:, 1], xy[:, 2]
    return (c[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1]) - (c[:, 1] - a[:, 1]) * (b[:, 0] - a[:, 0])


def _interpolate(
    pixel: Tensor,
    row: Tensor,
    xy: Tensor,
    edges: tuple[Tensor, Tensor, Tensor],
    q: Tensor,
    values: Tensor,
    height: int,
    width: int,
) -> Tensor:
    """Attributes ``(A, P)`` at the pixels, with perspective; ``values`` are the faces' corner values ``(N, 3, A)``."""
    weighted = torch.cat([q[..., None], values * q[..., None]], dim=-1)  # (N, 3, 1 + A)
    area = _area(xy)[:, None]
    w0, w1, w2 = weighted[:, 0], weighted[:, 1], weighted[:, 2]
    a, b = edges[0][..., None], edges[1][..., None]
    dx = (a[:, 0] * w0 + a[:, 1] * w1 + a[:, 2] * w2) / area
    dy = (b[:, 0] * w0 + b[:, 1] * w1 + b[:, 2] * w2) / area
    table = torch.cat([xy[:, 0], w0, dx, dy], dim=1).t().contiguous()  # (2 + 3 (1 + A), N)
    picked = table[:, row]
    count = weighted.shape[-1]
    x = (pixel % width).to(torch.float32) + 0.5 - picked[0]
    y = (torch.div(pixel, width, rounding_mode="floor") % height).to(torch.float32) + 0.5 - picked[1]
    result = picked[2 : 2 + count] + picked[2 + count : 2 + 2 * count] * x + picked[2 + 2 * count :] * y
    return result[1:] / result[0]
