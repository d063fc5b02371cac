"""Lips against what a regression expects from speech."""

import numpy as np
import pytest
import torch

from metrics.av_correlation import (
    BY_LISTENER,
    LipRegressor,
    SpokenClip,
    av_correlation,
    av_retrieval,
    fit_without,
    measure_heard_sync,
    measure_sync,
    speech_context,
)

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


def test_context_has_both_sides_and_no_loudness():
    waveform = spoken(0).waveform
    context = speech_context(waveform)
    assert context.shape == (FRAMES, 13 * 8)
    assert np.allclose(context, speech_context(0.5 * waveform), atol=0.1)
    assert context[20, :8] == pytest.approx(context[14, 48:56])
    assert context[20, -8:] == pytest.approx(context[26, 48:56])


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


def test_a_listener_expects_lips_by_what_it_alone_hears():
    """The sound is noise of one loudness throughout; the listener knows what is said in it."""
    said = {}

    def recorded(seed: int) -> SpokenClip:
        generator = np.random.default_rng(seed)
        sound = 0.1 * generator.normal(size=FRAMES * 640).astype(np.float32)
        lips = np.convolve(generator.normal(size=FRAMES), np.hanning(9), "same")
        said[float(sound[0])] = torch.from_numpy(np.stack([lips, np.roll(lips, 1)], axis=1)).float()
        return SpokenClip(f"person{seed}", f"voice{seed}", sound, lips + 0.1 * generator.normal(size=FRAMES))

    def listener(waveform: torch.Tensor) -> torch.Tensor:
        return said[float(waveform[0, 0])].repeat_interleave(2, dim=0)[None]

    clips = [recorded(seed) for seed in range(6)]
    judged, who = clips[0], (clips[0].identity, clips[0].voice)
    heard = fit_without(clips, *who, BY_LISTENER, listener)
    assert heard.weights.shape == (2,)
    found = measure_heard_sync(judged.lip_opening, judged.waveform, heard)
    assert set(found) == {"av_corr_whisper", "av_corr_zero_whisper", "av_lag_whisper"}
    assert found["av_corr_zero_whisper"] > 0.9
    assert found["av_lag_whisper"] == 0
    foreign = measure_heard_sync(judged.lip_opening, clips[1].waveform, heard)
    assert foreign["av_corr_zero_whisper"] < 0.5
    by_bands = measure_sync(judged.lip_opening, judged.waveform, fit_without(clips, *who))
    assert by_bands["av_corr_zero"] < 0.5
