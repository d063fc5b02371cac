import numpy as np
import torch

from datamodules.clips.augmentation import augment_pair, change_voice, hue_matrix, mirror, saturation_matrix
from datamodules.media.audio import MEL_BANDS


def test_another_voice_has_its_peaks_elsewhere_and_alike_at_all_moments() -> None:
    peak = torch.zeros(6, 2 * MEL_BANDS)
    peak[:, 40::MEL_BANDS] = 20
    places = []
    for seed in range(12):
        moved = change_voice(peak, np.random.default_rng(seed)).unflatten(1, (2, MEL_BANDS))
        place = moved.argmax(dim=-1)
        assert (place == place[0, 0]).all()
        places.append(int(place[0, 0]))
    assert len(set(places)) > 3
    assert max(abs(place - 40) for place in places) < 16


def test_a_voice_stays_speech_of_the_same_size() -> None:
    mel = torch.from_numpy(np.random.default_rng(0).normal(size=(128, 160))).float()
    one, again, other = (change_voice(mel, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.allclose(one, other, atol=0.3)
    assert one.shape == mel.shape
    assert one.dtype == torch.float32
    assert torch.isfinite(one).all()


def test_mirror_twice_is_nothing_and_keeps_boxes_on_their_pixels() -> None:
    regions = torch.tensor([[0.25, 0.5, 0.75, 1.0], [0.5, 0.0, 1.0, 0.25], [0.0, 0.0, 0.25, 0.25]])
    frames = torch.zeros(1, 3, 4, 4)
    frames[..., 0:1, 2:4] = 1.0  # fills the left eye's box
    points, pose = torch.rand(2, 5, 2), torch.rand(2, 8)
    flipped, boxes, moved, turned = mirror(frames, regions, points, pose)
    assert torch.equal(turned[:, :3], pose[:, :3] * torch.tensor([-1.0, 1.0, -1.0]))
    x0, y0, x1, y1 = (boxes[2] * 4).int().tolist()  # as a mirror picture it is a right eye
    assert flipped[..., y0:y1, x0:x1].mean() == 1
    assert flipped.sum() == frames.sum()
    assert torch.equal(moved[..., 1], points[..., 1])
    again, regions_again, points_again, _ = mirror(flipped, boxes, moved, turned)
    torch.testing.assert_close(points_again, points)
    assert torch.equal(again, frames)
    assert torch.equal(regions_again, regions)
    assert not mirror(frames, torch.zeros(3, 4), points, pose)[1].any()


def test_colour_changes_are_shared_by_the_pair_and_stay_in_range() -> None:
    frame = torch.rand(1, 3, 8, 8) * 2 - 1
    nothing = torch.zeros(3, 4), torch.zeros(2, 0, 2), torch.zeros(2, 0)
    changed, *_ = augment_pair(frame.repeat(2, 1, 1, 1), *nothing, np.random.default_rng(1))
    assert torch.equal(changed[0], changed[1])
    assert changed.abs().max() <= 1
    assert not torch.allclose(changed[0], frame[0])
    grey = torch.full((3,), 0.3)
    torch.testing.assert_close(hue_matrix(40.0) @ grey, grey)
    torch.testing.assert_close(saturation_matrix(0.3) @ grey, grey)
    torch.testing.assert_close(hue_matrix(120.0) @ torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0]))
