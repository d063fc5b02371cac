"""Light on the visible surface: a soft main light, a sky-and-ground fill, a rim light, mild highlights.

Only additions, multiplications and square roots, so that the bits depend on neither batch size nor position.
"""

import numpy as np
import torch
from torch import Tensor

from datamodules.synthetic_faces.identity import Identity

WRAP = (0.42, 0.30, 0.26)  # how far light creeps round the edge of shadow, by channel: skin lets red through


class Lights:
    """The lights of one person's set-up; directions are unit vectors in camera axes."""

    def __init__(self, person: Identity) -> None:
        a, e = np.deg2rad(person.key_azimuth), np.deg2rad(person.key_elevation)
        self.key = _unit(np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)]))
        self.half = _unit(self.key + np.array([0, 0, 1.0]))
        self.rim = _unit(np.array([-np.sign(person.key_azimuth) * 0.8, 0.35, -0.45]))
        warm = person.key_warmth
        self.key_colour = person.key_strength * 0.89 * np.array([1 + 0.10 * warm, 1.0, 1 - 0.14 * warm])
        self.sky = person.fill_strength * 0.46 * np.array([1 - 0.05 * warm, 1.0, 1 + 0.08 * warm])
        self.ground = person.fill_strength * 0.22 * np.array([1.06, 0.98, 0.92])
        self.rim_colour = person.rim_strength * 0.55 * np.array([1 - 0.06 * warm, 1.0, 1 + 0.08 * warm])


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)


def _dot(n: tuple[Tensor, Tensor, Tensor], v: np.ndarray) -> Tensor:
    return n[0] * float(v[0]) + n[1] * float(v[1]) + n[2] * float(v[2])


def shade(normal: Tensor, surface: Tensor, lights: Lights) -> Tensor:
    """Light ``(3, P)`` that leaves the surface towards the camera, linear, about [0, 1].

    ``normal (3, P)`` may have any length; ``surface (4, P)`` is linear colour and gloss.
    """
    length = torch.sqrt(normal[0] * normal[0] + normal[1] * normal[1] + normal[2] * normal[2]).clamp(min=1e-8)
    n = (normal[0] / length, normal[1] / length, normal[2] / length)
    key = _dot(n, lights.key)
    up = 0.5 + 0.5 * n[1]
    facing = n[2].clamp(0, 1)
    edge = 1 - facing
    rim = edge * edge * _dot(n, lights.rim).add(0.35).clamp(min=0)
    h = _dot(n, lights.half).clamp(min=0)
    for _ in range(3):
        h = h * h
    broad = h * h  # 16th power
    tight = broad * broad
    tight = tight * tight * tight  # 96th power
    gloss = surface[3]
    wet = gloss * gloss
    wet = wet * wet * wet  # eyes only
    point = tight * tight
    point = point * point
    point = point * point  # 768th power
    shine = gloss * ((1 - wet) * (0.16 * broad + gloss * gloss * 0.9 * tight)) * (1 + 2 * edge * edge)
    shine = shine + wet * 1.4 * point
    result = torch.empty_like(surface[:3])
    for i in range(3):
        soft = ((key + WRAP[i]) / (1 + WRAP[i])).clamp(min=0)
        soft = soft * (0.35 + 0.65 * soft)
        key_light, rim_light = float(lights.key_colour[i]), float(lights.rim_colour[i])
        ground = float(lights.ground[i])
        light = soft * key_light + up * float(lights.sky[i] - lights.ground[i]) + ground
        result[i] = surface[i] * (light + rim * rim_light) + shine * key_light
        result[i] += 0.12 * rim * rim_light
    return result
