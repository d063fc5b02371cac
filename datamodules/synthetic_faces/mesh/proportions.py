"""Facial measures of one identity, and the outlines of lips, eyes and brows drawn from them.

Head space, used by all of the geometry: x towards image right (the person's left), y up, z towards the camera, the
origin between the ears, lengths in head radii (the chin lies near y = -1, the top of the skull near y = 1.1).
"""

import numpy as np

from datamodules.synthetic_faces.identity import Identity
from datamodules.synthetic_faces.mesh.profiles import falloff


class Proportions:
    """Measures of one person: lengths in head radii, angles in radians."""

    def __init__(self, person: Identity) -> None:
        self.mouth_y = -0.60 + 0.014 * person["mouth_height"]
        self.eye_half = 0.168 + 0.009 * person["eye_size"]  # half the distance of an eye's corners
        self.mouth_half = 0.255 + 0.018 * person["mouth_width"]  # half the distance of the mouth's corners
        self.lip_upper = 0.070 + 0.012 * person["lip_upper"]  # height of the upper lip's red at rest
        self.lip_lower = 0.088 + 0.013 * person["lip_lower"]
        self.lip_bow = 0.18 + 0.05 * person["lip_bow"]  # depth of Cupid's bow, share of the upper lip
        self.eye_x = 0.335 + 0.012 * person["eye_spacing"]
        self.eye_y = 0.075 + 0.012 * person["eye_height"]
        # How far the open lids' edges lie above and below the line through the corners.
        self.eye_upper = self.eye_half * (0.51 + 0.05 * person["eye_open"])
        self.eye_lower = self.eye_half * (0.32 + 0.03 * person["eye_open"])
        self.eye_tilt = 0.05 + 0.05 * person["eye_tilt"]  # slope, > 0: outer corner higher
        self.eyeball = 0.225  # radius
        self.iris = 0.090 + 0.003 * person["iris_size"] + 0.3 * (self.eye_half - 0.168)  # radius
        self.brow_y = 0.335 + 0.02 * person["brow_height"]
        self.brow_thickness = 0.056 + 0.010 * person["brow_thickness"]
        self.brow_angle = 0.12 + 0.09 * person["brow_angle"]
        self.brow_arch = 0.035 + 0.012 * person["brow_arch"]
        self.brow_inner = 0.125 + 0.015 * person["brow_spacing"]
        self.brow_outer = 0.55
        self.nose_y = -0.365 + 0.018 * person["nose_length"]  # underside of the nose
        self.nose_width = 0.135 + 0.014 * person["nose_width"]
        self.nose_height = 0.295 + 0.03 * person["nose_height"]
        self.chin_y = -1.0 - 0.03 * person["chin_length"]
        self.smile_rest = 0.018 + 0.010 * person["smile_rest"]

    def opening(self, x: np.ndarray) -> np.ndarray:
        """How far the lips can part at ``x``: 1 in the middle, 0 from the corners on."""
        return np.sqrt(np.clip(1 - (x / self.mouth_half) ** 2, 0, 1))

    def mouth_line(self, x: np.ndarray) -> np.ndarray:
        """Height of the line between the closed lips at ``x``."""
        s = np.abs(x) / self.mouth_half
        curl = self.smile_rest * np.minimum(s, 1.3) ** 2 * np.exp(-(np.maximum(s - 1.0, 0) ** 2) * 4)
        return self.mouth_y + curl - 0.008 * falloff(s, 0.25)

    def upper_lip(self, x: np.ndarray) -> np.ndarray:
        """Height of the upper lip's red above the mouth line at ``x``; 0 beyond the corners."""
        s = np.clip(np.abs(x) / self.mouth_half, 0, 1)
        return self.lip_upper * (1 - s**1.7) * (1 - self.lip_bow * falloff(s, 0.15))

    def lower_lip(self, x: np.ndarray) -> np.ndarray:
        """Depth of the lower lip's red below the mouth line at ``x``; 0 beyond the corners."""
        s = np.clip(np.abs(x) / self.mouth_half, 0, 1)
        return self.lip_lower * (1 - s**2.3)

    def eye_local(self, x: np.ndarray) -> np.ndarray:
        """Position along the nearer eye: -1 at its inner corner, 1 at its outer corner."""
        return (np.abs(x) - self.eye_x) / self.eye_half

    def eye_line(self, x: np.ndarray) -> np.ndarray:
        """Height of the line through the corners of the nearer eye at ``x``."""
        s = self.eye_local(x)
        fade = falloff(np.maximum(np.abs(s) - 1, 0), 0.8)
        return self.eye_y + self.eye_tilt * self.eye_half * s * fade

    def upper_lid(self, x: np.ndarray) -> np.ndarray:
        """Height of the open upper lid's edge above the eye line at ``x``; 0 beyond the corners."""
        s = np.clip(self.eye_local(x), -1, 1)
        return self.eye_upper * (1 - s**2) ** 0.72 * (1 - 0.14 * s)

    def lower_lid(self, x: np.ndarray) -> np.ndarray:
        """Depth of the lower lid's edge below the eye line at ``x``; 0 beyond the corners."""
        s = np.clip(self.eye_local(x), -1, 1)
        return self.eye_lower * (1 - s**2) ** 0.85 * (1 + 0.18 * s)

    def brow_line(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Brow at ``x``: height of its middle, half its thickness, and its position 0 (inner) .. 1 (outer)."""
        s = (np.abs(x) - self.brow_inner) / (self.brow_outer - self.brow_inner)
        inside = np.clip(s, 0, 1)
        y = self.brow_y + self.brow_angle * 0.4 * (inside - 0.4)
        y = y + self.brow_arch * (np.sin(inside * 2.7) - 0.75) - 0.10 * np.maximum(inside - 0.62, 0)
        half = 0.5 * self.brow_thickness * (0.9 + 0.25 * np.sin(inside * 3))
        half = half * (1 - np.maximum(inside - 0.45, 0) * 1.35)
        return y, np.maximum(half, 0.004), s
