"""Sharpness and flicker of faces that are held still."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from metrics.alignment import Similarity, cut_aligned
from metrics.landmarks import FACE
from metrics.sharpness import (
    SharpnessSettings,
    StillFaceSettings,
    cut,
    fine_detail,
    flicker,
    frame_sharpness,
    hold_still,
    sharpness,
)

SIDE = StillFaceSettings().side


def face_clip(frames: int = 30) -> tuple[torch.Tensor, np.ndarray]:
    """A patterned face that drifts and turns a little, with landmarks that follow it."""
    texture = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (1, 3, 32, 32))).float()
    texture = F.interpolate(texture, (256, 256), mode="bicubic").clamp(0, 255).to(torch.uint8)
    angle = 0.1 * np.sin(np.arange(frames) / 9)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    shift = 128 - rotation @ np.full(2, 128.0) + np.stack([np.arange(frames) * 0.3, 0 * angle], axis=1)
    moved = cut_aligned(texture.expand(frames, -1, -1, -1), Similarity(rotation, shift), 256)
    rest = np.random.default_rng(1).uniform(60, 190, (478, 2))
    across, down = (88, 110, 146, 168, 128, 128, 128, 128), (100, 100, 100, 100, 100, 110, 120, 130)
    rest[list(FACE.rigid)] = np.stack([across, down], axis=1)
    points = np.einsum("tij,kj->tki", rotation, rest) + shift[:, None]
    return moved.round().to(torch.uint8), np.concatenate([points, np.zeros((frames, 478, 1))], axis=2)


def test_faces_are_held_still_blur_and_flicker_are_seen():
    frames, points = face_clip()
    faces = hold_still(frames, points)
    assert faces.shape == (30, SIDE, SIDE)
    middle = faces[:, 60:130, 60:130]
    assert (middle - middle[:1]).abs().mean() < 0.15 * middle.std()  # moved in the picture, not here
    assert flicker(faces) < 2

    kernel = torch.ones(3, 1, 9, 9) / 81
    blurred = F.conv2d(frames.float(), kernel, padding=4, groups=3).to(torch.uint8)
    values = sharpness(hold_still(blurred, points), faces)
    assert max(values.values()) < 0.8
    assert sharpness(faces, faces) == {"sharpness_mouth": 1, "sharpness_eyes": 1}
    assert frame_sharpness(blurred, frames) < 0.8
    assert frame_sharpness(frames, frames) == 1
    assert np.isnan(frame_sharpness(frames, torch.zeros_like(frames)))
    mouth_only = faces.clone()
    cut(mouth_only, SharpnessSettings().mouth)[:] = 128
    assert sharpness(mouth_only, faces)["sharpness_mouth"] < 0.1
    assert sharpness(mouth_only, faces)["sharpness_eyes"] == 1

    shaken = (frames.float() + 20 * (torch.arange(30) % 2)[:, None, None, None]).clamp(0, 255).to(torch.uint8)
    assert flicker(hold_still(shaken, points)) > flicker(faces) + 10


def test_flicker_looks_across_no_gap():
    """Frames that steadily grow brighter do not flicker, though some of them show no face."""
    faces = 20 + 4 * torch.arange(20.0)[:, None, None].expand(-1, SIDE, SIDE)
    places = np.delete(np.arange(20), [6, 7, 8])
    assert flicker(faces) < 1e-4
    assert flicker(faces[torch.from_numpy(places)]) > 0.5
    assert flicker(faces[torch.from_numpy(places)], places) < 1e-4
    assert np.isnan(flicker(faces[::2], np.arange(0, 20, 2)))


def test_no_face_gives_no_number():
    frames, points = face_clip(12)
    points[:] = np.nan
    faces = hold_still(frames, points)
    assert len(faces) == 0
    assert np.isnan(flicker(faces))
    assert np.isnan(list(sharpness(faces, faces).values())).all()
    flat = torch.zeros(3, SIDE, SIDE)  # no detail to hold another against
    assert np.isnan(list(sharpness(flat + torch.rand(SIDE), flat).values())).all()


def test_fine_detail_is_a_share_of_the_portraits_whatever_the_size():
    generator = np.random.default_rng(0)
    picture = torch.from_numpy(generator.integers(0, 256, (1, 3, 60, 48))).to(torch.uint8)
    picture = torch.nn.functional.interpolate(picture.float(), (480, 384), mode="bicubic").clamp(0, 255)
    points = np.full((1, 478, 3), 200.0)
    points[0, :2, :2] = (96, 120), (288, 360)
    portrait = picture.to(torch.uint8)
    video, places = portrait.expand(20, -1, -1, -1), np.repeat(points, 20, axis=0)
    assert fine_detail(video, places, portrait, points) == pytest.approx(1)
    found = [
        fine_detail(
            torch.from_numpy(gaussian_filter(portrait.numpy(), (0, 0, sigma, sigma))),
            points,
            portrait,
            points,
        )
        for sigma in (0, 2, 4, 8)
    ]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.5
    larger = torch.nn.functional.interpolate(picture, scale_factor=2, mode="bicubic").clamp(0, 255)
    assert fine_detail(larger.to(torch.uint8), 2 * points, portrait, points) == pytest.approx(1, abs=0.03)
    lost = places.copy()
    lost[5:] = np.nan
    assert fine_detail(video, lost, portrait, points) == pytest.approx(1)
    assert np.isnan(fine_detail(video, places * np.nan, portrait, points))
    assert np.isnan(fine_detail(video, places, portrait, points * np.nan))
