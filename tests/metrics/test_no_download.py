import numpy as np
import pytest
import torch

from metrics.av_correlation import (
    LipRegressor,
    SpokenClip,
    av_correlation,
    av_retrieval,
    fit_without,
    measure_sync,
    speech_context,
)
from metrics.distributions import (
    MOTION_DIM,
    BlinkIntervalDistance,
    HeadSpectrumDistance,
    HeadVelocityDistance,
    MotionFrechetDistance,
    blink_intervals,
    head_spectrum,
    head_speed,
    motion_features,
)
from metrics.sharpness import FACE, flicker, hold_still, region, sharpness

FRAMES = 200


def spoken(seed: int, late: int = 0, frames: int = FRAMES) -> SpokenClip:
    """Noise whose loudness opens the lips; the lips come ``late`` frames after it."""
    generator = np.random.default_rng(seed)
    level = np.convolve(generator.uniform(0, 1, frames + 6), np.hanning(7)[1:-1] / 3, "same")[3:-3] ** 2
    waveform = generator.normal(size=frames * 640) * np.repeat(level, 640) * 0.2
    lips = np.roll(np.log(level + 0.01), late) + 0.05 * generator.normal(size=frames)
    return SpokenClip(f"person{seed}", f"voice{seed}", waveform.astype(np.float32), lips)


@pytest.fixture(scope="module")
def clips() -> list[SpokenClip]:
    return [spoken(seed) for seed in range(5)]


def test_context_hears_both_sides_and_no_loudness():
    waveform = spoken(0).waveform
    heard = speech_context(waveform)
    assert heard.shape == (FRAMES, 13 * 8)
    assert np.allclose(heard, speech_context(0.5 * waveform), atol=0.1)
    assert heard[20, :8] == pytest.approx(heard[14, 48:56])
    assert heard[20, -8:] == pytest.approx(heard[26, 48:56])


def test_lips_that_follow_are_told_from_lips_that_do_not(clips):
    judged, others = clips[0], clips[1:]
    regressor = fit_without(clips, judged.identity, judged.voice)
    foreign = [other.waveform for other in others]
    own = measure_sync(judged.lip_opening, judged.waveform, regressor, foreign)
    shuffled = measure_sync(judged.lip_opening, others[0].waveform, regressor, foreign[1:])
    assert own["av_corr"] == own["av_corr_zero"] > 0.7
    assert own["av_lag"] == 0
    assert own["av_retrieval"] > 0.95
    assert shuffled["av_corr"] < 0.5
    assert 0.2 < shuffled["av_retrieval"] < 0.8
    still = measure_sync(np.full(FRAMES, 0.1), judged.waveform, regressor, foreign)
    assert np.isnan(list(still.values())).all()


def test_what_a_codec_does_to_a_still_face_is_no_speech(clips):
    """Lips that move by a fiftieth of the real ones, however well they follow; and lips that are hardly ever seen."""
    judged = clips[0]
    regressor = fit_without(clips, judged.identity, judged.voice)
    for share, known in ((0.02, False), (0.5, True), (1.0, True)):
        lips = share * judged.lip_opening
        found = measure_sync(lips, judged.waveform, regressor, (), judged.lip_opening)
        assert np.isfinite(found["av_corr"]) == known
    for frames, known in ((39, False), (40, True)):
        lips = np.where(np.arange(FRAMES) < frames, judged.lip_opening, np.nan)
        assert np.isfinite(measure_sync(lips, judged.waveform, regressor)["av_corr"]) == known
    unseen = measure_sync(judged.lip_opening, judged.waveform, regressor, (), np.full(FRAMES, np.nan))
    assert np.isnan(unseen["av_corr"])  # nothing to hold it against


@pytest.mark.parametrize("late", [-8, -3, 0, 5, 12])
def test_late_sound_is_a_positive_lag(clips, late):
    judged = clips[0]
    regressor = fit_without(clips, judged.identity, judged.voice)
    sound = np.roll(judged.waveform, 640 * late)
    found = measure_sync(judged.lip_opening, sound, regressor, [clip.waveform for clip in clips[1:]])
    assert found["av_lag"] == late
    assert found["av_corr"] > 0.7
    assert (found["av_corr_zero"] == found["av_corr"]) is (late == 0)
    assert found["av_retrieval"] > 0.85  # a constant shift doesn't hide which speech it is


def test_clips_out_of_sync_are_put_in_sync_for_the_fit(clips):
    lates = [0, 4, -3, 2, 0, -5]
    shifted = [spoken(seed + 20, late) for seed, late in enumerate(lates)]
    regressor = LipRegressor(shifted)
    middle = np.median(np.subtract(regressor.lags, lates))
    assert np.abs(np.subtract(regressor.lags, lates) - middle).max() <= 1
    judged = clips[0]
    found = av_correlation(judged.lip_opening, regressor.expect(judged.waveform))
    assert found.best > 0.65


def test_the_judged_person_and_voice_are_never_fitted_on(clips):
    same_voice = SpokenClip("twin", clips[0].voice, clips[0].waveform, clips[0].lip_opening)
    assert fit_without([clips[0], same_voice], clips[0].identity, clips[0].voice) is None
    one = fit_without([*clips, same_voice], clips[0].identity, clips[0].voice)
    assert one.weights == pytest.approx(LipRegressor(clips[1:]).weights)
    faceless = SpokenClip("x", "x", clips[1].waveform, np.full(FRAMES, np.nan))
    assert fit_without([clips[0], faceless], clips[0].identity, clips[0].voice) is None


def test_frames_without_a_face_are_no_obstacle(clips):
    gaps = clips[1].lip_opening.copy()
    gaps[30:60] = np.nan
    regressor = LipRegressor([SpokenClip("a", "a", clips[1].waveform, gaps), *clips[2:]])
    lips = clips[0].lip_opening.copy()
    lips[100:110] = np.nan
    assert measure_sync(lips, clips[0].waveform, regressor)["av_corr"] > 0.7
    assert np.isnan(av_retrieval(lips[:40], regressor.expect(clips[0].waveform)[:40], []))


def moving_face(seed: int = 0, frames: int = FRAMES, speech: float = 1.0, head: float = 1.0):
    """Landmarks ``(T, 478, 3)`` of a cloud that talks, blinks and turns, and its rotation ``(T, 3)``."""
    generator = np.random.default_rng(seed)
    rest = np.random.default_rng(99).uniform(-100, 100, (478, 3))
    rest[33], rest[263] = (-50, -20, 0), (50, -20, 0)
    smooth = np.hanning(9) / 4
    talk, turn = (np.convolve(generator.normal(size=frames), smooth, "same") for _ in range(2))
    points = np.repeat(rest[None], frames, axis=0)
    points[:, [14, 17, 152], 1] += 8 * speech * talk[:, None]
    rotation = np.stack([6 * head * turn, 0 * turn, 0 * turn], axis=1)
    angle = np.radians(rotation[:, 0])
    matrix = np.zeros((frames, 3, 3))
    matrix[:, 0, 0], matrix[:, 0, 2] = np.cos(angle), np.sin(angle)
    matrix[:, 2, 0], matrix[:, 2, 2] = -np.sin(angle), np.cos(angle)
    matrix[:, 1, 1] = 1
    return np.einsum("tij,tkj->tki", matrix, points) + 256, rotation


def test_motion_features_split_head_from_face():
    points, rotation = moving_face()
    features = motion_features(points, rotation)
    assert features.shape == (FRAMES - 5, MOTION_DIM)
    points_still, rotation_still = moving_face(head=0)
    face = [*range(8), *range(11, 19)]
    assert features[:, face] == pytest.approx(
        motion_features(points_still, rotation_still)[:, face], abs=1e-6
    )
    points[10] = np.nan
    assert len(motion_features(points, rotation)) == FRAMES - 5 - 3
    assert motion_features(np.full_like(points, np.nan), rotation).shape == (0, MOTION_DIM)


def test_motion_frechet_grows_with_the_difference():
    """The same motion drawn anew is near, half the speech further, a frozen face furthest."""
    values = []
    for speech, head in ((1.0, 1.0), (0.5, 1.0), (0.0, 0.0)):
        metric = MotionFrechetDistance()
        for seed in range(4):
            metric.update(torch.from_numpy(motion_features(*moving_face(seed))), real=True)
            metric.update(
                torch.from_numpy(motion_features(*moving_face(seed + 9, speech=speech, head=head))),
                real=False,
            )
        values.append(float(metric.compute()))
    assert values[0] < 0.5 * values[1] < 0.5 * values[2]
    assert metric.frames == (4 * (FRAMES - 5), 4 * (FRAMES - 5))
    assert torch.isnan(MotionFrechetDistance().compute())


def test_motion_frechet_agrees_with_the_matrix_root():
    from scipy.linalg import sqrtm

    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, 60, MOTION_DIM)) * generator.uniform(0.5, 3, (2, 1, MOTION_DIM)) + 0.2
    metric = MotionFrechetDistance()
    for part in np.split(a, 3):
        metric.update(torch.from_numpy(part), real=True)
    metric.update(torch.from_numpy(b), real=False)
    first, second = a / a.std(axis=0), b / a.std(axis=0)
    covariances = np.cov(first.T, bias=True), np.cov(second.T, bias=True)
    spread = np.trace(sum(covariances) - 2 * sqrtm(covariances[0] @ covariances[1]).real)
    expected = ((first.mean(0) - second.mean(0)) ** 2).sum() + spread
    assert float(metric.compute()) == pytest.approx(expected)


def test_velocity_spectrum_and_blinks_compare_distributions():
    times = np.arange(FRAMES) / 25
    slow = np.stack([5 * np.sin(2 * np.pi * 0.5 * times), 0 * times, 0 * times], axis=1)
    assert head_speed(np.stack([times, 0 * times, 0 * times], axis=1)) == pytest.approx(1)
    for metric, measure in ((HeadVelocityDistance(), head_speed), (HeadSpectrumDistance(), head_spectrum)):
        metric.update(torch.from_numpy(measure(slow)), real=True)
        metric.update(torch.from_numpy(measure(slow)), real=False)
        assert float(metric.compute()) == pytest.approx(0)
        metric.reset()
        metric.update(torch.from_numpy(measure(slow)), real=True)
        metric.update(torch.from_numpy(measure(0 * slow)), real=False)
        assert float(metric.compute()) > 3
    # a head that moves with ten times the amplitude has 20 dB more in every octave
    assert head_spectrum(10 * slow)[0, 1] - head_spectrum(slow)[0, 1] == pytest.approx(20, abs=0.1)
    assert head_spectrum(slow[:50]).shape == (0, 5)

    blink = np.zeros(500)
    for start in (5, 80, 105, 205):
        blink[start : start + 4] = 1
    blink[300] = 1  # too short
    assert blink_intervals(blink) == pytest.approx([3, 1, 4])
    metric = BlinkIntervalDistance()
    metric.update(torch.tensor([1.0, 2, 3, 4, 5]), real=True)
    metric.update(torch.tensor([2.0, 3, 4, 5]), real=False)
    assert torch.isnan(metric.compute())
    metric.update(torch.tensor([6.0]), real=False)
    assert float(metric.compute()) == pytest.approx(1)


def face_clip(frames: int = 30) -> tuple[torch.Tensor, np.ndarray]:
    """A patterned face that drifts and turns a little, with landmarks that follow it."""
    from metrics.alignment import Similarity, cut_aligned

    texture = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (1, 3, 32, 32))).float()
    texture = (
        torch.nn.functional.interpolate(texture, (256, 256), mode="bicubic").clamp(0, 255).to(torch.uint8)
    )
    angle = 0.1 * np.sin(np.arange(frames) / 9)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    shift = 128 - rotation @ np.full(2, 128.0) + np.stack([np.arange(frames) * 0.3, 0 * angle], axis=1)
    moved = (
        cut_aligned(texture.expand(frames, -1, -1, -1), Similarity(rotation, shift), 256)
        .round()
        .to(torch.uint8)
    )
    rest = np.random.default_rng(1).uniform(60, 190, (478, 2))
    rest[[33, 133, 362, 263, 168, 6, 197, 195]] = [
        (88, 100),
        (110, 100),
        (146, 100),
        (168, 100),
        (128, 100),
        (128, 110),
        (128, 120),
        (128, 130),
    ]
    points = np.einsum("tij,kj->tki", rotation, rest) + shift[:, None]
    return moved, np.concatenate([points, np.zeros((frames, 478, 1))], axis=2)


def test_faces_are_held_still_blur_and_flicker_are_seen():
    frames, points = face_clip()
    faces = hold_still(frames, points)
    assert faces.shape == (30, FACE, FACE)
    middle = faces[:, 60:130, 60:130]
    assert (middle - middle[:1]).abs().mean() < 0.15 * middle.std()  # moved in the picture, not here
    assert flicker(faces) < 2

    kernel = torch.ones(3, 1, 9, 9) / 81
    blurred = torch.nn.functional.conv2d(frames.float(), kernel, padding=4, groups=3).to(torch.uint8)
    values = sharpness(hold_still(blurred, points), faces)
    assert max(values.values()) < 0.8
    assert sharpness(faces, faces) == {"sharpness_mouth": 1, "sharpness_eyes": 1}
    mouth_only = faces.clone()
    region(mouth_only, "mouth")[:] = 128
    assert sharpness(mouth_only, faces)["sharpness_mouth"] < 0.1
    assert sharpness(mouth_only, faces)["sharpness_eyes"] == 1

    shaken = (frames.float() + 20 * (torch.arange(30) % 2)[:, None, None, None]).clamp(0, 255).to(torch.uint8)
    assert flicker(hold_still(shaken, points)) > flicker(faces) + 10


def test_flicker_looks_across_no_gap():
    """Frames that steadily grow brighter do not flicker, though some of them show no face."""
    faces = 20 + 4 * torch.arange(20.0)[:, None, None].expand(-1, FACE, FACE)
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
    flat = torch.zeros(3, FACE, FACE)  # no detail to hold another against
    assert np.isnan(list(sharpness(flat + torch.rand(FACE), flat).values())).all()


@pytest.mark.parametrize("seed", range(8))
def test_equal_motion_is_at_no_distance(seed):
    """Rounding must not make it less than none."""
    features = torch.from_numpy(np.random.default_rng(seed).normal(size=(200, 22))).cumsum(dim=0)
    metric = MotionFrechetDistance()
    metric.update(features, real=True)
    metric.update(features, real=False)
    assert 0 <= float(metric.compute()) < 1e-9
    other, shift = features.clone(), torch.zeros(22)
    other[:, 3] = 0.5  # of which there is no unit to count in
    shift[3] = 1.0
    metric = MotionFrechetDistance()
    metric.update(other, real=True)
    metric.update(other + shift, real=False)
    assert 0 <= float(metric.compute()) < 1e-9
