import numpy as np
import torch

from datamodules.batches import FramePairBatch
from datamodules.clips.augmentation import (
    augment_pair,
    blur_background,
    change_voice,
    hue_matrix,
    mirror,
    saturation_matrix,
)
from datamodules.media.audio import MEL_BANDS, mel_filterbank


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


def test_some_voices_come_through_a_telephone() -> None:
    mel = torch.from_numpy(np.random.default_rng(0).normal(size=(64, 160))).float()
    spread = torch.stack(
        [
            change_voice(mel, np.random.default_rng(seed)).unflatten(1, (2, MEL_BANDS)).std(dim=(0, 1))
            for seed in range(100)
        ]
    )
    narrow = spread[:, 70] < 0.2
    assert 3 <= narrow.sum() <= 20
    frequency = mel_filterbank(MEL_BANDS, 16_000, 16_000).argmax(axis=0)  # of the peak of each band, in Hz
    heard = (spread[narrow] > 0.3).all(dim=0).numpy()
    assert 250 < frequency[heard].min() < 350
    assert 3300 < frequency[heard].max() < 3500
    assert (spread[~narrow] > 0.3).all()


def test_a_voice_stays_speech_of_the_same_size() -> None:
    mel = torch.from_numpy(np.random.default_rng(0).normal(size=(128, 160))).float()
    one, again, other = (change_voice(mel, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.allclose(one, other, atol=0.3)
    assert one.shape == mel.shape
    assert one.dtype == torch.float32
    assert torch.isfinite(one).all()


def pair(**fields: torch.Tensor) -> FramePairBatch:
    """A pair without a batch axis of which nothing is known but ``fields``."""
    empty = {
        **{name: torch.zeros(3, 4, 4) for name in ("source", "driving", "shown")},
        "regions": torch.zeros(3, 4), "landmarks": torch.zeros(2, 0, 2), "pose": torch.zeros(2, 0),
        "visible": torch.zeros(2, 0), "person": torch.zeros(2, 0, 0),
    }  # fmt: skip
    return FramePairBatch(**(empty | fields))


def test_mirror_twice_is_nothing_and_keeps_boxes_on_their_pixels() -> None:
    regions = torch.tensor([[0.25, 0.5, 0.75, 1.0], [0.5, 0.0, 1.0, 0.25], [0.0, 0.0, 0.25, 0.25]])
    frame = torch.zeros(3, 4, 4)
    frame[..., 0:1, 2:4] = 1.0  # fills the left eye's box
    known = {"landmarks": torch.rand(2, 5, 2), "pose": torch.rand(2, 8), "visible": torch.rand(2, 5).round()}
    one = pair(
        source=frame, driving=frame + 1, shown=frame + 2, regions=regions, person=torch.rand(2, 4, 4), **known
    )
    found = mirror(one)
    assert torch.equal(found.pose[:, :3], one.pose[:, :3] * torch.tensor([-1.0, 1.0, -1.0]))
    x0, y0, x1, y1 = (found.regions[2] * 4).int().tolist()  # as a mirror picture it is a right eye
    assert found.source[..., y0:y1, x0:x1].mean() == 1
    assert torch.equal(found.driving, found.source + 1)
    assert torch.equal(found.shown, found.source + 2)
    assert found.source.sum() == frame.sum()
    assert torch.equal(found.landmarks[..., 1], one.landmarks[..., 1])
    assert torch.equal(found.person[..., 0], one.person[..., -1])
    assert torch.equal(found.visible, one.visible)
    for field, before in zip(mirror(found), one, strict=True):
        torch.testing.assert_close(field, before)
    assert not mirror(pair(source=frame)).regions.any()


def test_colour_changes_are_shared_by_the_pair_and_stay_in_range() -> None:
    frame = torch.rand(3, 8, 8) * 2 - 1
    changed = augment_pair(pair(source=frame, driving=frame, shown=frame), np.random.default_rng(1))
    assert torch.equal(changed.source, changed.driving)
    assert torch.equal(changed.shown, changed.driving)
    other = augment_pair(pair(source=frame, driving=frame, shown=-frame), np.random.default_rng(1))
    assert torch.equal(other.source, changed.source)
    assert not torch.equal(other.shown, other.source)
    grey = torch.full((3,), 0.3)
    torch.testing.assert_close(hue_matrix(40.0) @ grey, grey)
    torch.testing.assert_close(saturation_matrix(0.3) @ grey, grey)
    torch.testing.assert_close(hue_matrix(120.0) @ torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0]))


def test_the_background_alone_is_blurred_where_the_person_is_known() -> None:
    frames = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    person = torch.full((2, 8, 8), torch.nan)
    person[0] = 0.0
    person[0, :, 4:] = 1.0
    blurred = blur_background(frames, person, 21)
    assert torch.equal(blurred[1], frames[1])
    assert torch.equal(blurred[0, ..., 16:], frames[0, ..., 16:])
    assert blurred[0, ..., :14].std() < 0.3 * frames[0, ..., :14].std()
