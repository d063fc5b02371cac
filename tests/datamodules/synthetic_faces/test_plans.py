from collections import Counter

import numpy as np
import pytest

from datamodules.errors import UserError
from datamodules.synthetic_faces.plans import plan_clips
from datamodules.synthetic_faces.settings import Settings


@pytest.mark.parametrize("clips", [3, 5, 16, 40, 200])
def test_splits_share_no_identity_and_none_is_empty(clips: int) -> None:
    plans = plan_clips(Settings(clips))
    split_of = dict({(p.seen, p.split) for p in plans})
    assert len({(p.seen, p.split) for p in plans}) == len(split_of)
    assert set(split_of.values()) == {"train", "val", "test"}
    assert len(plans) == len({p.clip_id for p in plans}) == clips
    if clips >= 40:
        shares = Counter(p.split for p in plans)
        assert [shares[s] / clips for s in ("train", "val", "test")] == pytest.approx(
            [0.8, 0.1, 0.1], abs=0.06
        )
        assert clips / len(split_of) > 3


def test_draws_share_identity_and_speech_but_not_motion() -> None:
    plans = plan_clips(Settings(240, draws=8, identities=15))
    groups = [[p for p in plans if p.speech == speech] for speech in range(30)]
    for group in groups:
        assert len(group) == 8
        assert len({(p.performer, p.split, p.seconds) for p in group}) == 1
        assert len({p.rng("speech", 7).random() for p in group}) == 1
        assert len({p.rng("motion", 7).random() for p in group}) == 8


def test_an_identity_keeps_its_voice() -> None:
    plans = plan_clips(Settings(60, identities=12))
    drawn = {(plan.performer, plan.rng("voice", 3).random()) for plan in plans}
    assert (
        len(drawn) == len({performer for performer, _ in drawn}) == len({number for _, number in drawn}) == 12
    )


def test_twins_have_the_motion_on_a_head_of_their_own() -> None:
    plans = plan_clips(Settings(60, identities=12, twins=True))
    originals = {p.clip_id: p for p in plans if not p.is_twin}
    twins = [p for p in plans if p.is_twin]
    shown = [p.split for p in originals.values() if p.split != "train"]
    assert Counter(p.split for p in twins) == Counter(shown)
    streams = ("motion", "speech", "seen", "performer")
    for twin in twins:
        motion, speech, seen, performer = (twin.rng(name, 3).random() for name in streams)
        own = [originals[twin.original_id].rng(name, 3).random() for name in streams]
        assert [motion, speech, performer] == own[:3]
        assert seen != performer
    assert not {t.seen for t in twins} & {p.seen for p in originals.values()}


def test_long_clips_are_spread_over_the_splits() -> None:
    plans = plan_clips(Settings(120, identities=20, long_clips=5))
    long = [p for p in plans if p.seconds[0] >= 60]
    assert Counter(p.split for p in long) == {"test": 2, "val": 2, "train": 1}
    assert np.diff(sorted(p.index for p in long if p.split == "test")).min() > 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"clips": 2}, {"size": 9}, {"size": 65}, {"domain": "moon"}, {"seed": -1}, {"seconds": (5.0, 4.0)},
        {"identities": 13},
        {"identities": 2}, {"draws": 5}, {"draws": 0}, {"draws": 6}, {"identities": 0}, {"long_clips": 13}, {"style": "none"},
        {"dense": True, "size": 512, "long_clips": 1}, {"intensity": "loud"}, {"camera": "drunk"},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_named_in_one_line(wrong: dict) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(wrong))}".replace("_", "-")) as caught:
        Settings(**({"clips": 12} | wrong)).check()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_of_the_training_clips_has_twins_of_train(share: float) -> None:
    plans = plan_clips(Settings(200, identities=20, train_twins=share))
    training = [plan for plan in plans if plan.split == "train"]
    twins = [plan for plan in plans if plan.is_twin]
    assert {plan.split for plan in twins} <= {"train"}
    assert len(twins) == pytest.approx(share * (len(training) - len(twins)), abs=2)
    assert not {plan.seen for plan in twins} & {plan.seen for plan in plans if plan.split != "train"}
