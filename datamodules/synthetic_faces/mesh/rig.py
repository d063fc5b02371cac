"""The rig: one mesh of all parts, its displacement fields, and their evaluation for a stretch of frames."""

import dataclasses
import itertools
from functools import partial

import numpy as np
import torch
from torch import Tensor

from datamodules.synthetic_faces.identity import Identity
from datamodules.synthetic_faces.mesh import parts as pieces
from datamodules.synthetic_faces.mesh.fields import FEATURES, SIDES, displacement_fields
from datamodules.synthetic_faces.mesh.geometry import Part, Skull, build_skin
from datamodules.synthetic_faces.mesh.hair import HANGING, build_hair
from datamodules.synthetic_faces.mesh.headwear import build_headwear
from datamodules.synthetic_faces.mesh.profiles import falloff, smoothstep
from datamodules.synthetic_faces.motion.controls import Controls

JAW_RANGE = 0.172  # radians at jaw_open = 1
HEAD_PIVOT = (0.0, -0.72, -0.14)  # head radii; the pose turns about it
SHOULDER_PIVOT = (0.0, -1.9, -0.14)
LID_REACH = 0.31  # how far from an eyeball's axis the skin lies on it, head radii
LID_GAP = 0.012  # skin above the eyeball, head radii


def features(c: dict[str, np.ndarray]) -> np.ndarray:
    """Strengths ``(T, F)`` of the displacement fields, in the order of ``FEATURES``, from the controls by name."""
    value = {name: c[name] for name in FEATURES if name in c}
    angle = JAW_RANGE * c["jaw_open"]
    value |= {"jaw_sine": np.sin(angle), "jaw_cosine": np.cos(angle) - 1, "tuck": c["lip_tuck"]}
    value |= {"wide": c["lips_wide"], "round": c["lips_round"]}
    # An open mouth that spreads or smiles bares its teeth; a closed one stays closed. The tongue needs an open mouth.
    open_mouth = np.tanh(3 * np.clip(c["jaw_open"] + c["lips_part"], 0, None))
    spread = 0.40 * np.maximum(c["lips_wide"], 0) + 0.30 * np.maximum(c["smile"], 0)
    value["part"] = c["lips_part"] + open_mouth * spread
    value["tongue_out"] = c["tongue_out"] * (0.3 + 0.7 * open_mouth * (1 - np.clip(c["lips_press"], 0, 1)))
    look = np.sin(np.deg2rad(np.clip(c["gaze_y"], -35, 35)))
    happy = np.clip(c["smile"], 0, 1)
    for eye, side in SIDES:
        seen = 1 - np.clip(c[f"blink_{eye}"], 0, 1)
        value[f"smile_{eye}"] = c["smile"] * (1 + 0.6 * side * np.clip(c["smile_skew"], -1, 1))
        value[f"open_{eye}"] = seen
        value[f"close_{eye}"] = 1 - seen
        value[f"look_{eye}"] = look * seen
        value[f"lid_wide_{eye}"] = c[f"lid_wide_{eye}"] * seen
        drawn = (1 - happy / 1.5) * (1 - np.clip(c[f"squint_{eye}"], 0, 1))
        drawn = drawn * (1 - 0.4 * np.clip(c[f"cheek_raise_{eye}"], 0, 1))
        value[f"squint_{eye}"] = 1.5 * (1 - drawn) * seen  # several causes never add up to crossing lids
    return np.stack([value[name] for name in FEATURES], axis=1)


WRINKLES = ("forehead", "frown", "nasolabial", "crow")  # order of the maps in ``Atlas.wrinkles``


@dataclasses.dataclass
class _Seam:
    """Vertices near the mouth, the column of each, and how much of a correction of the gap each takes."""

    upper: Tensor
    lower: Tensor
    near: Tensor
    column: Tensor
    press: Tensor
    tuck: Tensor


class Rig:
    """The mesh of one person and how the controls move it.

    Attributes:
        parts: the parts in the order of the mesh. first: first vertex of each part by name.
        faces: ``(F, 3)`` int64. rest: ``(V, 3)`` positions with eyes and mouth closed.
        skin: the skin grid. proportions: the facial measures.
    """

    def __init__(self, person: Identity, device: torch.device) -> None:
        self.device = device
        skull = Skull(person)
        m = self.proportions = skull.measures
        skin = self.skin = build_skin(skull)
        skin.part.jaw = pieces.jaw_weights(m, skin)
        self.eye_centres = pieces.eye_centres(skull)
        (upper, lower), (upper_lid, lower_lid) = skin.mouth_rows, skin.eye_rows
        strip = partial(pieces.inner_strip, skin)
        strips = [
            strip("upper_lip_inside", upper, skin.mouth_columns, True, 0.075, "lip"),
            strip("lower_lip_inside", lower, skin.mouth_columns, False, 0.085, "lip"),
        ]
        balls = pieces.eyeballs(m, self.eye_centres)
        for ball, columns in zip(balls, skin.eye_columns, strict=True):
            strips.append(strip(f"{ball.name}_upper_rim", upper_lid, columns, True, 0.03, "lash"))
            strips.append(strip(f"{ball.name}_lower_rim", lower_lid, columns, False, 0.03, "rim"))
        covered = person.hair_style in HANGING  # the ears
        self.parts: list[Part] = [
            skin.part,
            *pieces.mouth_inside(skull),
            *(part for part, _, _ in strips),
            *balls,
            *([] if covered else pieces.ears(skull)),
            *build_hair(skull),
            *build_headwear(skull),
            pieces.clothes(person),
            *pieces.glasses(skull, self.eye_centres),
        ]
        starts = itertools.accumulate((len(p.vertices) for p in self.parts), initial=0)
        self.first = dict(zip((p.name for p in self.parts), starts, strict=False))
        faces = np.concatenate([p.faces + self.first[p.name] for p in self.parts])
        self.faces = torch.as_tensor(faces, device=device)
        self._balls = [slice(self.first[b.name], self.first[b.name] + len(b.vertices)) for b in balls]
        self.rest = self._tensor(np.concatenate([p.vertices for p in self.parts]))
        self.head = self._tensor(np.concatenate([p.head for p in self.parts]))[:, None]
        self._follow = torch.as_tensor(np.concatenate([s[1] for s in strips]), device=device)
        self._offset = self._tensor(np.concatenate([s[2] for s in strips]))
        first = self.first[strips[0][0].name]
        self._strips = slice(first, first + len(self._offset))
        self._fields = self._build_fields()
        self._seam = self._build_seam()
        self._lids = self._build_lids()

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32, device=self.device)

    def _index(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, device=self.device)

    def _build_fields(self) -> list[tuple[Tensor, Tensor]]:
        """For each feature the vertices it moves and by how much at strength 1."""
        fields = displacement_fields(self.proportions, self.skin, self.parts)
        result = []
        for name in FEATURES:
            size = np.abs(fields[name]).max(axis=1)
            moved = np.flatnonzero(size > 1e-3 * size.max())
            result.append((self._index(moved), self._tensor(fields[name][moved])))
        return result

    def _build_seam(self) -> _Seam:
        skin, m = self.skin, self.proportions
        columns = skin.mouth_columns[1:-1]
        column_of = np.full(len(skin.part.vertices), -1)
        column_of[skin.index[:, columns]] = np.arange(len(columns))
        x, y, _ = skin.part.vertices.T
        d = np.abs(y - m.mouth_line(x))
        near = np.flatnonzero((column_of >= 0) & (d < 0.40))
        d, below = d[near], skin.side[near] < 0
        share = np.where(below, 0.62 * falloff(d, 0.17), -0.38 * falloff(d, 0.13))
        depth = np.where(below, falloff(d, 0.17), 0.0)  # the upper lip stays in front of its teeth
        press = np.stack([share, share, depth], axis=1)
        tuck = np.where(below, falloff(d, 0.15), 0.0)[:, None]
        edges = (skin.index[row, columns] for row in skin.mouth_rows)
        upper, lower, vertex, column = map(self._index, (*edges, near, column_of[near]))
        return _Seam(upper, lower, vertex, column, self._tensor(press), self._tensor(tuck))

    def _build_lids(self) -> list[tuple[Tensor, Tensor]]:
        """For each eye the skin that may lie on the ball, and how much of it does."""
        x, y, z = self.skin.part.vertices.T
        result = []
        for cx, cy, _ in self.eye_centres:
            distance = np.hypot(x - cx, y - cy)
            near = np.flatnonzero((distance < LID_REACH) & (z > 0.2))
            share = self._tensor(smoothstep(LID_REACH, 0.6 * LID_REACH, distance[near]))
            result.append((self._index(near), share))
        return result

    def shape(self, controls: Controls) -> Tensor:
        """Positions ``(T, V, 3)`` in head space, before the pose; a frame's bits do not depend on the others."""
        c = controls.by_name()
        values = features(c)
        strength = self._tensor(values)
        p = self.rest.expand(len(values), -1, -1).clone()
        for number, (moved, field) in enumerate(self._fields):
            if values[:, number].any():  # what does not move adds nothing, to the bit
                p[:, moved] += strength[:, number, None, None] * field
        self._close_seam(p, c)
        for (near, share), (cx, cy, cz) in zip(self._lids, self.eye_centres.tolist(), strict=True):
            q = p[:, near]
            dx, dy = q[..., 0] - cx, q[..., 1] - cy
            # The ball's front as a series in the distance from its axis, so that it goes on falling beyond the ball.
            radius = self.proportions.eyeball + LID_GAP
            square = (dx * dx + dy * dy) / (radius * radius)
            ball = cz + radius * (1 - 0.5 * square - 0.125 * square * square)
            difference = q[..., 2] - ball
            # The soft maximum of skin and ball, at the rim the skin alone.
            q[..., 2] += share * 0.5 * (torch.sqrt(difference * difference + 1.5e-4) - difference)
            p[:, near] = q
        p[:, self._strips] = p[:, self._follow] + self._offset
        self._turn_eyes(p, c)
        return p

    def _close_seam(self, p: Tensor, c: dict[str, np.ndarray]) -> None:
        """Takes the gap between the lips back where they are pressed or the lower lip is tucked; never lets them cross."""
        seam = self._seam
        gap = p[:, seam.upper] - p[:, seam.lower]
        press = self._tensor(np.clip(c["lips_press"], 0, 1))[:, None, None]
        tuck = 0.75 * self._tensor(np.clip(c["lip_tuck"], 0, 1))[:, None, None]
        closed = press * gap
        closed[..., 1] = torch.where(gap[..., 1] < 0, gap[..., 1], closed[..., 1])
        p[:, seam.near] += closed[:, seam.column] * seam.press
        tucked = tuck * (gap - closed)
        p[:, seam.near] += tucked[:, seam.column] * seam.tuck

    def _turn_eyes(self, p: Tensor, c: dict[str, np.ndarray]) -> None:
        pitch = np.deg2rad(np.clip(c["gaze_y"], -35, 35))
        for ball, (_, side), centre in zip(self._balls, SIDES, self.eye_centres, strict=True):
            yaw = np.deg2rad(np.clip(c["gaze_x"] - side * c["vergence"], -40, 40))
            turn = self._tensor(rotation(yaw, pitch, 0 * yaw))
            middle = self._tensor(centre)
            p[:, ball] = rotate(turn, p[:, ball] - middle) + middle

    def wrinkle_strengths(self, controls: Controls) -> Tensor:
        """How deep each fold of ``WRINKLES`` is: ``(T, K)`` in [0, 1]."""
        c = controls.by_name()

        def up(name: str) -> np.ndarray:
            return np.maximum(c[name], 0)

        def pair(name: str) -> np.ndarray:
            return 0.5 * (up(f"{name}_left") + up(f"{name}_right"))

        lowered = 0.5 * (np.maximum(-c["brow_left"], 0) + np.maximum(-c["brow_right"], 0))
        hard = 0.5 * (up("blink_left") * up("squint_left") + up("blink_right") * up("squint_right"))
        nose = up("nose_wrinkle")
        depth = (
            0.9 * pair("brow") + 0.6 * pair("brow_inner") + 0.3 * up("scalp"),
            0.9 * up("brow_knit") + 0.5 * lowered + 0.3 * nose,
            0.8 * up("smile") + 0.4 * pair("cheek_raise") + 0.5 * nose + 0.4 * pair("upper_lip"),
            0.6 * pair("squint") + 0.6 * pair("cheek_raise") + 0.35 * up("smile") + 0.5 * hard,
        )
        return self._tensor(1 - np.exp(-1.6 * np.stack(depth, axis=1)))

    def pose(self, p: Tensor, controls: Controls) -> Tensor:
        """Moves head and shoulders; returns positions ``(T, V, 3)`` in camera axes."""
        c = controls.by_name() | {"none": np.zeros(len(controls))}

        def moved(about: tuple[float, ...], angles: tuple[str, ...], shifts: tuple[str, ...]) -> Tensor:
            turn = self._tensor(rotation(*(np.deg2rad(c[name]) for name in angles)))
            shift = self._tensor(np.stack([c[name] for name in shifts], axis=1))
            pivot = self._tensor(np.array(about))
            return rotate(turn, p - pivot) + pivot + shift[:, None]

        head = moved(HEAD_PIVOT, ("yaw", "pitch", "roll"), ("shift_x", "shift_y", "shift_z"))
        turns, shifts = ("shoulder_yaw", "none", "shoulder_roll"), ("shoulder_x", "shoulder_y", "none")
        shoulders = moved(SHOULDER_PIVOT, turns, shifts)
        return shoulders + self.head * (head - shoulders)


def rotation(yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Rotation matrices ``(T, 3, 3)`` = yaw * pitch * roll (roll first, in the head's own axes), angles in radians.

    Signs as seen in the image: yaw > 0 towards image right, pitch > 0 up, roll > 0 clockwise.
    """

    def about(axis: int, angle: np.ndarray) -> np.ndarray:
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.tile(np.eye(3), (len(angle), 1, 1))
        turn[:, i, i] = turn[:, j, j] = np.cos(angle)
        turn[:, j, i], turn[:, i, j] = np.sin(angle), -np.sin(angle)
        return turn

    return about(1, yaw) @ about(0, -pitch) @ about(2, -roll)


def rotate(turn: Tensor, p: Tensor) -> Tensor:
    """Applies ``turn (T, 3, 3)`` to ``p (T, V, 3)``, element by element so that the bits depend on no batch size."""
    x, y, z = p.unbind(dim=-1)
    rows = [turn[:, i, 0, None] * x + turn[:, i, 1, None] * y + turn[:, i, 2, None] * z for i in range(3)]
    return torch.stack(rows, dim=-1)
