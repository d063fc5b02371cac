"""The self-test on drawn clips with stand-in judges: which measures answer, and what it must not invent."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.errors import UserError
from metrics.evaluation import selftest
from metrics.evaluation.clips import reference_clips
from metrics.evaluation.corruptions import CORRUPTIONS, corrupt, swapped
from metrics.evaluation.protocol import get_protocol
from metrics.evaluation.registry import MEASURES
from metrics.evaluation.remarks import absent_judges
from metrics.fid import FrechetInceptionDistance
from metrics.motion import edge_step_ratio, edge_steps

PROTOCOL = get_protocol("talking-head-v2", "reconstruction", size=64)


@pytest.fixture(scope="module")
def samples(studio, reference, tmp_path_factory) -> list[selftest.Sample]:
    aligned = studio.with_phones(reference, tmp_path_factory.mktemp("aligned") / "reference")
    seen: list[str] = []
    told = partial(lambda seen, done, total, text: seen.append(text), seen)
    found, missing = selftest.load_samples(reference_clips(aligned), PROTOCOL, studio.stand_ins(), told)
    assert "no sound track" in str(missing)
    assert len(seen) == len(found) == 5
    return found


def test_the_selftest_tells_which_measures_answer(samples, studio):
    judges = studio.stand_ins(inception=studio.PictureFields())
    judges.hashes["inception"] = "9" * 64
    rows = selftest.self_test(samples, judges, PROTOCOL)
    verdicts = {(row["corruption"], row["measure"]): row["answers"] for row in rows}
    expected = {
        "freeze": ("psnr", "mouth_lmd", "mouth_motion", "head_motion"),
        "identity swap": ("csim", "aed", "psnr"),
        "sound shift": ("av_lag",),
        "landmark noise": ("jitter",),
        "blur": ("psnr", "sharpness"),
        "shaking frame": ("akd",),
        "slowed": ("head_velocity_distance",),
    }
    assert all(verdicts[name, measure] is True for name, of in expected.items() for measure in of)
    fid = {row["corruption"]: row["values"] for row in rows if row["measure"] == "fid"}
    assert fid["blur"][0] == pytest.approx(0, abs=1e-3)
    assert fid["blur"][3] > 1 > fid["blur"][1]  # a quarter of the blur in a picture of 64 pixels
    assert fid["sound shift"] == pytest.approx([0] * 4, abs=1e-3)  # it leaves the pictures alone
    assert ("blur", "fvd") not in verdicts
    assert verdicts["blur", "jitter"] is None  # not made for it
    closed = next(row["values"] for row in rows if row["measure"] == "lip_closure")
    assert closed[0] > 0.9 > max(closed[1:]) + 0.1  # phones come late with the sound
    absent = {one["what"]: one["why"] for one in selftest.unasked(rows, absent_judges(judges))}
    assert "fewer than five" in absent["blink_interval_distance"]  # the stand-in never blinks
    assert absent["blink_rate"] == "nobody blinks"
    assert "fvd" in absent
    assert not {"psnr", "lse_d"} & set(absent)
    assert not {f"{measure} under {name}" for name, of in expected.items() for measure in of} & set(
        selftest.out_of_order(rows)
    )


def test_how_many_clips_a_verdict_stands_on(samples, studio):
    assert selftest.caution(samples).startswith(f"{len(samples)} clips, the shortest of 60 frames: ")
    long = dataclasses.replace(samples[0], real=samples[0].real.select(np.arange(120) % 60))
    assert selftest.caution([long] * 5) == ""
    assert selftest.caution([long] * 4) != ""
    with pytest.raises(UserError, match="two people"):
        selftest.self_test(samples[:1], studio.stand_ins(), PROTOCOL)


def test_every_measure_with_a_merit_has_a_corruption_that_it_must_answer_to():
    asked = {measure for one in CORRUPTIONS.values() for measure in one.answers}
    merits = {
        name
        for name, one in MEASURES.items()
        if one.better != "none" and not one.base and one.kind != "portrait"
    }
    assert merits - asked == {"mouth_lmd_best"}  # of several takes


def test_the_selftest_invents_nothing_for_clips_that_say_nothing(samples, studio):
    """Clips under two seconds have no retrieval, so chance must not stand for it."""
    short = [
        dataclasses.replace(one, real=one.real.first(45), waveform=one.waveform[: 45 * 640])
        for one in samples
        if one.waveform is not None
    ]
    judges = studio.stand_ins()
    rows = selftest.self_test(short, judges, PROTOCOL)
    assert "av_retrieval" not in {row["measure"] for row in rows}
    assert "av_retrieval" in {one["what"] for one in selftest.unasked(rows, [])}
    frozen = next(row for row in rows if (row["corruption"], row["measure"]) == ("freeze", "av_corr"))
    assert frozen["values"][3] == 0


def test_seams_lead_from_window_to_window_and_nowhere_else(samples, studio):
    long = samples[0].real.select(np.arange(200) % 60)
    turning = dataclasses.replace(
        long,
        raw_motion=dataclasses.replace(long.raw_motion, rotation=np.outer(np.arange(200.0), [1, 0, 0])),
    )
    seamed = corrupt("seams", 5, turning, turning, studio.stand_ins()).raw_motion.rotation[:, 0]
    steps = np.diff(seamed)
    assert steps[[63, 127, 135]].tolist() == [6, -4, 6]  # the last window begins at 136 of 200
    assert (np.delete(steps, [63, 127, 135])[:-5] == 1).all()


def test_seams_are_seen_in_clips_as_long_as_the_self_tests(samples, studio):
    turns = np.outer(np.arange(float(125)), [1, 0, 0])
    clip = samples[0].real.select(np.arange(125) % 60)
    turning = dataclasses.replace(clip, raw_motion=dataclasses.replace(clip.raw_motion, rotation=turns))
    for measure in (edge_steps, edge_step_ratio):
        seen = [
            measure(corrupt("seams", strength, turning, turning, studio.stand_ins()).raw_motion.rotation)
            for strength in (0, 1, 3, 5)
        ]
        assert seen == sorted(seen)
        assert seen[0] < seen[-1]


def test_pixels_of_a_corruption_are_those_of_a_picture_of_256(samples, studio):
    view = samples[0].real
    big = dataclasses.replace(
        view, frames=view.frames.repeat(1, 1, 4, 4), raw_landmarks=4 * view.raw_landmarks
    )
    for name in ("landmark noise", "shaking frame"):
        moved = [
            corrupt(name, 8, one, one, studio.stand_ins()).landmarks - one.landmarks for one in (view, big)
        ]
        assert np.abs(moved[1] - 4 * moved[0]).max() <= (0 if name == "landmark noise" else 4) + 1e-9
        assert moved[1][..., :2].std() == pytest.approx(8, rel=0.25)


@pytest.mark.parametrize(
    ("values", "direction", "answers"),
    [
        ([1, 2, 3, 4], 1, True),
        ([4, 3, 1, 0], -1, True),
        ([1, 2, 2, 4], 1, False),
        ([1, 2, np.nan, 4], 1, False),
    ],
)
def test_answers_must_come_at_every_step(values, direction, answers):
    assert selftest.answers(values, direction) == answers


def test_a_share_of_frames_is_swapped(samples):
    first, second = samples[0].real, samples[3].real
    mixed = swapped(first, second, 0.25)
    foreign = (mixed.frames != first.frames[: len(mixed)]).flatten(1).any(dim=1)
    assert int(foreign.sum()) == 60 // 4
    assert (mixed.motion.lip_opening[foreign.numpy()] == second.motion.lip_opening[foreign.numpy()]).all()


def noise() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (60, 3, 8, 8), generator=generator, dtype=torch.uint8) for _ in range(4)]


def seen(share: float, judges, frames: int = 60) -> list[selftest.FrameResults]:
    """What the networks see of noise that is darkened by a share."""
    dark = [(one[:frames] * (1 - share)).to(torch.uint8) for one in noise()]
    return [selftest.FrameResults({}, selftest.picture_features(one, judges, PROTOCOL)) for one in dark]


def test_picture_distances_rise_with_the_harm_and_are_nothing_without(studio):
    judges = studio.all_judges()
    del judges.hashes["motion"], judges.hashes["landmarks"]
    real = seen(0, judges)
    found = [selftest.distances(real, seen(share, judges), judges, PROTOCOL) for share in (0, 0.3, 0.9)]
    for name in ("fid", "kid", "fvd"):
        values = [one[name] for one in found]
        assert values[0] == pytest.approx(0, abs=2e-2 * values[1])
        assert values[0] < values[1] < values[2]
    fid = FrechetInceptionDistance(judges.inception)
    for frames in noise():
        fid.update(frames[::5], real=True)
        fid.update((frames[::5] * (1 - 0.9)).to(torch.uint8), real=False)
    assert found[2]["fid"] == pytest.approx(float(fid.compute()))


@pytest.mark.parametrize(
    ("absent", "frames", "names"),
    [
        ((), 60, "fid kid fd_efficientnet_lite0 fvd"),
        (("i3d",), 60, "fid kid fd_efficientnet_lite0"),
        (("inception",), 60, "fd_efficientnet_lite0 fvd"),
        (("inception", "efficientnet"), 15, ""),
    ],
)  # in 15 frames no clip has a window
def test_only_the_judges_that_are_there_answer(absent, frames, names, studio):
    judges = studio.all_judges(**dict.fromkeys(absent))
    for slot in (*absent, "motion", "landmarks"):
        del judges.hashes[slot]
    features = seen(0, judges, frames)
    assert set(selftest.distances(features, features, judges, PROTOCOL)) == set(names.split())
