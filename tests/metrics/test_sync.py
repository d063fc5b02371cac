"""Lip sync: offsets against a plain loop, planted shifts, clips in batches, the face crop."""

import numpy as np
import pytest
import torch
from torch import nn

from metrics.evaluation.judges import SyncNetJudge
from metrics.evaluation.protocol import Protocol
from metrics.judges.syncnet import SyncNet
from metrics.sync import (
    FaceCropSettings,
    SyncResult,
    SyncSettings,
    clip_features,
    face_crops,
    lip_sync,
    offsets_and_distances,
)

D = 12


def features(frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(frames, D, generator=torch.Generator().manual_seed(seed))


def plain(lip: torch.Tensor, audio: torch.Tensor, reach: int) -> np.ndarray:
    """Mean distance at every offset, one frame after the other; sound outside the clip is a vector of zeros."""
    padded, count = np.pad(audio.double(), ((reach, reach), (0, 0))), len(lip)
    apart = [lip.double().numpy() - padded[start : start + count] + 1e-6 for start in range(2 * reach + 1)]
    return np.array([np.linalg.norm(one, axis=1).mean() for one in apart])


@pytest.mark.parametrize("frames", [1, 2, 7, 40, 300])
@pytest.mark.parametrize("reach", [1, 15])
def test_all_offsets_at_once_equal_a_plain_loop(frames, reach):
    lip, audio = features(frames), features(frames, 1)
    result, curve = offsets_and_distances(lip, audio, SyncSettings(reach)), plain(lip, audio, reach)
    np.testing.assert_allclose(result.curve, curve, rtol=1e-6)
    assert result.offset == curve.argmin() - reach
    assert result.distance == pytest.approx(curve.min(), rel=1e-6)
    assert result.confidence == pytest.approx(np.median(curve) - curve.min(), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("shift", range(-8, 9))
def test_a_planted_shift_is_found_with_its_sign(shift):
    """Sound that comes ``shift`` frames late has the lips' feature of frame i at i + shift."""
    long = features(120)
    lip, audio = long[20:100], long[20 - shift : 100 - shift]
    result = offsets_and_distances(lip, audio + 0.1 * features(80, 1))
    assert result.offset == shift
    assert result.confidence > 1
    # What the published script prints: vshift - argmin, where sound frame i + argmin - vshift lies at lip frame i.
    assert result.published_offset == 15 - int(result.curve.argmin()) == -shift


def test_sound_beyond_the_ends_is_zero():
    lip, audio = torch.ones(10, D), torch.ones(10, D)
    curve = offsets_and_distances(lip, audio).curve
    shares = np.minimum(np.abs(np.arange(-15, 16)), 10) / 10
    np.testing.assert_allclose(curve, shares * D**0.5, atol=2e-5)


@pytest.mark.parametrize("pair", [((3, 4), (4, 4)), ((0, 4), (0, 4)), ((4,), (4,))])
def test_features_that_do_not_fit_are_refused(pair):
    with pytest.raises(ValueError, match="lips and sound"):
        offsets_and_distances(*(torch.zeros(shape) for shape in pair))
    with pytest.raises(ValueError, match="reach"):
        offsets_and_distances(torch.zeros(3, 4), torch.zeros(3, 4), SyncSettings(0))


class Loudness(SyncNet):
    """A network whose features are the brightness of the lips' middle frame and the loudness of the sound: sync is exact."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.size, self.region, self.scale = 16, (0.0, 0.0, 1.0, 1.0), nn.Parameter(torch.ones(()))

    def lip_track(self, frames: torch.Tensor) -> torch.Tensor:
        bright = frames.mean(dim=(0, 2, 3)).unfold(0, 5, 1)
        return self.scale * bright / 25

    def audio_features(self, cepstra: torch.Tensor) -> torch.Tensor:
        return self.scale * cepstra[:, 0, 0, 1::4]  # log energy in the middle of every frame


def flashing_clip(frames: int, seed: int = 0, late: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames as bright as their sound is loud, with the sound ``late`` frames late."""
    generator = np.random.default_rng(seed)
    level = generator.uniform(5, 10, frames + 40)
    picture = np.rint(25 * level[20 : 20 + frames]).astype(np.uint8)
    noise = generator.choice([-1.0, 1.0], (frames, 640))
    # energy of a column of pre-emphasised white noise: 400 (1 + 0.97^2) / 2 values of the one-sided spectrum
    loud = np.sqrt(np.exp(level[20 - late : 20 - late + frames]) / (200 * (1 + 0.97**2)))
    sound = (noise * loud[:, None]).reshape(-1) / 32768
    images = torch.from_numpy(picture)[:, None, None, None].expand(-1, 3, 16, 16)
    return images, torch.from_numpy(sound).float()


@pytest.mark.parametrize("late", range(-8, 9))
def test_late_sound_is_found_in_frames_and_samples(late):
    network = Loudness().eval()
    result = judged(network, *flashing_clip(100, late=late))
    assert result.offset == late
    delayed = flashing_clip(100)[1].roll(640 * late)
    assert judged(network, flashing_clip(100)[0], delayed).offset == late


def judged(network: SyncNet, frames: torch.Tensor, sound: torch.Tensor) -> SyncResult:
    (result,) = lip_sync(network, frames, [sound])
    return result


def network(size: int = 64) -> SyncNet:
    torch.manual_seed(0)
    return SyncNet(0.0625, size).eval()


def random_clip(frames: int, seed: int = 0, size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (frames, 3, size, size), generator=generator, dtype=torch.uint8)
    return images, 0.1 * torch.randn(640 * frames, generator=generator)


def test_batches_do_not_change_features_and_the_last_five_frames_begin_none():
    judge, (frames, sound) = network(), random_clip(20)
    lip, (audio,) = clip_features(judge, frames, [sound])
    assert lip.shape == audio.shape == (15, judge.features)
    for size in (1, 4, 15):
        found = clip_features(judge, frames, [sound], size)
        torch.testing.assert_close(found, (lip, [audio]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        clip_features(judge, frames, [sound[: 640 * 12 + 639]])[0], lip[:7], atol=1e-5, rtol=1e-5
    )
    as_float = frames.float() / 127.5 - 1
    torch.testing.assert_close(clip_features(judge, as_float, [sound])[0], lip, atol=1e-5, rtol=1e-5)


def test_several_sounds_of_one_clip_are_judged_as_each_alone():
    judge, (frames, sound) = network(), random_clip(40)
    sounds = [sound, random_clip(40, seed=1)[1]]
    alone = [judged(judge, frames, one) for one in sounds]
    lips, lip_track = [], judge.lip_track
    judge.lip_track = lambda part: lips.append(len(part)) or lip_track(part)
    both = lip_sync(judge, frames, sounds)
    assert len(lips) == 2  # batches of one look
    for one, other in zip(both, alone, strict=True):
        assert (one.curve == other.curve).all()
    protocol = Protocol("short", sync=SyncSettings(minimum_frames=40))
    found = SyncNetJudge(judge, boxes=False)(frames, None, [one.numpy() for one in sounds], protocol)
    expected = {"lse_d": alone[1].distance, "lse_c": alone[1].confidence, "av_offset": alone[1].offset}
    assert found[1] == pytest.approx(expected)
    with pytest.raises(ValueError, match="39 frames, lip sync is judged from 40 on"):
        SyncNetJudge(judge, boxes=False)(frames[:39], None, [sound.numpy()], protocol)


def test_frames_of_another_size_are_resized():
    judge, (frames, sound) = network(), random_clip(12, size=96)
    lip, _ = clip_features(judge, frames, [sound])
    small = nn.functional.interpolate(frames.float(), (64, 64), mode="bilinear", antialias=True)
    as_float = small / 127.5 - 1  # which is rounded to whole levels
    torch.testing.assert_close(clip_features(judge, as_float, [sound])[0], lip, atol=1e-3, rtol=1e-3)


def test_wrong_clips_are_refused():
    judge, (frames, sound) = network(), random_clip(6)
    assert clip_features(judge, frames, [sound])[0].shape[0] == 1
    for wrong in ((frames[:5], [sound]), (frames, [sound[:3000]])):
        with pytest.raises(ValueError, match="6 or more"):
            clip_features(judge, *wrong)
    for wrong in (frames.permute(0, 2, 3, 1), frames.float(), frames.long(), frames[0]):
        with pytest.raises(ValueError, match="images must be"):
            clip_features(judge, wrong, [sound])
    for wrong in (sound[None], (sound * 32767).short(), sound * 32767, sound / 0, sound.numpy()):
        with pytest.raises(ValueError, match=r"sound must be \(S,\) float in \[-1, 1\]; got"):
            clip_features(judge, frames, [wrong])
    with pytest.raises(ValueError, match="training mode"):
        clip_features(judge.train(), frames, [sound])


def published_crops(frames: np.ndarray, boxes: np.ndarray, size: int) -> np.ndarray:
    """The published rule on padded pictures, with OpenCV's resize."""
    cv2 = pytest.importorskip("cv2")
    from scipy.signal import medfilt

    half = medfilt(np.maximum(boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]) / 2, 13)
    x, y = medfilt((boxes[:, 0] + boxes[:, 2]) / 2, 13), medfilt((boxes[:, 1] + boxes[:, 3]) / 2, 13)
    crops = []
    for i, frame in enumerate(frames):
        pad = int(half[i] * 1.8)
        wide = np.pad(frame, ((pad, pad), (pad, pad), (0, 0)), constant_values=110)
        rows = slice(int(y[i] + pad - half[i]), int(y[i] + pad + half[i] * 1.8))
        columns = slice(int(x[i] + pad - half[i] * 1.4), int(x[i] + pad + half[i] * 1.4))
        crops.append(cv2.resize(wide[rows, columns], (size, size)))
    return np.stack(crops)


def track(frames: int, seed: int = 0) -> np.ndarray:
    """Trembling boxes that reach over the edges of a picture of 90 x 120."""
    generator = np.random.default_rng(seed)
    along = np.linspace([20.0, 60], [80, 60], frames)
    centre = along + generator.normal(0, 3, (frames, 2))
    half = 25 + generator.normal(0, 2, (frames, 2))
    return np.concatenate([centre - half, centre + half], axis=1)


def test_crops_are_the_published_ones():
    frames = np.random.default_rng(0).integers(0, 256, (30, 90, 120, 3), dtype=np.uint8)
    boxes = track(30)
    crops = face_crops(torch.from_numpy(frames).permute(0, 3, 1, 2), boxes, FaceCropSettings(64))
    ours = crops.permute(0, 2, 3, 1).numpy()
    theirs = published_crops(frames, boxes, 64)
    assert (ours[:5, :, :5] == 110).all()  # grey beyond the left edge
    assert np.abs(ours.astype(int) - theirs).max() <= 1  # OpenCV interpolates in fixed point


def test_frames_without_a_face_are_interpolated():
    frames = torch.randint(0, 256, (30, 3, 90, 120), dtype=torch.uint8)
    boxes = np.linspace([20.0, 20, 50, 60], [50.0, 25, 80, 65], 30)
    gappy = boxes.copy()
    gappy[10:20] = np.nan
    assert torch.equal(face_crops(frames, gappy), face_crops(frames, boxes))
    held, ends = np.repeat(boxes[:1], 30, axis=0), np.repeat(boxes[:1], 30, axis=0)
    ends[:3] = ends[-2:] = np.nan
    assert torch.equal(face_crops(frames, ends), face_crops(frames, held))


def test_a_box_outside_the_picture_gives_grey():
    frames = torch.zeros(13, 3, 40, 40, dtype=torch.uint8)
    for x, y in ((-200.0, 0), (0, 200), (300, 300), (-200, -200)):
        assert face_crops(frames, np.tile([x, y, x + 40, y + 40], (13, 1))).unique().tolist() == [110]


@pytest.mark.parametrize(
    ("frames", "dtype", "boxes", "corner", "message"),
    [
        (13, torch.float32, 13, 0, "must be"),
        (13, torch.uint8, 12, 0, "must be"),
        (12, torch.uint8, 12, 0, "too few"),
        (13, torch.uint8, 13, np.nan, "no face in any"),
        (13, torch.uint8, 13, 9, "without area"),
    ],
)
def test_wrong_tracks_are_refused(frames, dtype, boxes, corner, message):
    with pytest.raises(ValueError, match=message):
        face_crops(torch.zeros(frames, 3, 40, 40, dtype=dtype), np.tile([corner, corner, 9.0, 9], (boxes, 1)))


@pytest.mark.parametrize("unseen", [slice(10, 35), slice(0, 25), slice(35, 60)])
def test_a_long_gap_ends_the_track(unseen):
    frames, boxes = torch.zeros(60, 3, 40, 40, dtype=torch.uint8), np.tile([0.0, 0, 9, 9], (60, 1))
    boxes[unseen] = np.nan
    with pytest.raises(ValueError, match="no face for 25 frames"):
        face_crops(frames, boxes)
    boxes[[unseen.start, unseen.stop - 1]] = [0.0, 0, 9, 9]
    assert len(face_crops(frames, boxes)) == 60
