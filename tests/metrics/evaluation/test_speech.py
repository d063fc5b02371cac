"""Regressions from speech to lips over clips, and lip closure at the phones that are spoken."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from datamodules.clips.phones import Phone
from datamodules.media.video import write_video
from metrics.av_correlation import RegressionSettings, SpokenClip
from metrics.evaluation.clip_results import SPEECH_ROWS, ClipResult
from metrics.evaluation.clips import ClipFiles, ForeignSpeech
from metrics.evaluation.speech import LipRegressors, add_correlations, closures

HERE, SETTINGS = Path(), RegressionSettings()


def files(name: str) -> ClipFiles:
    return ClipFiles(name, HERE, HERE, (), name, name)


def test_lips_made_from_other_speech_do_not_choose_among_it(studio):
    """Lips that follow the foreign speech perfectly would find it whenever it stood for choice."""
    known = {name: studio.spoken(20 + number, 150) for number, name in enumerate("abcdef")}
    clips = {name: SpokenClip(name, name, sound, lips) for name, (lips, sound) in known.items()}
    rows = {"real": [known["a"][0]], "generated": [known["a"][0]], "swapped": [known["b"][0]]}
    asked = []

    class Asked(LipRegressors):
        def choice(self, voices, most):
            asked.append(set(voices))
            return super().choice(voices, most)

    judges, protocol = studio.stand_ins(), studio.PROTOCOL

    def judged(clips, regressors=LipRegressors):
        made = ClipResult(files("a"), rows, clips["a"], ForeignSpeech("b", known["b"][1]))
        assert add_correlations(made, regressors(clips, SETTINGS), protocol, judges)
        return made

    made = judged(clips, Asked)
    values = made.values
    assert made.fitted == 5
    assert asked == [
        {"a", "b"} if row in ("swapped", "shuffled") else {"a"} for row in (*SPEECH_ROWS, "shuffled")
    ]
    assert values["av_retrieval"] > 0.9
    del clips["b"]  # as if b had never been there to choose
    without = judged(clips).values
    for row in ("swapped", "shuffled"):
        assert abs(values[f"av_retrieval_{row}"] - without[f"av_retrieval_{row}"]) < 0.1
        assert values[f"av_corr_zero_{row}"] < 0.5 < values["av_corr_zero"]


def test_whose_speech_stands_for_choice_does_not_depend_on_what_was_judged_first():
    clips = [SpokenClip(name, name, np.full(640, place), np.zeros(1)) for place, name in enumerate("abcd")]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        regressors = LipRegressors({clips[place].voice: clips[place] for place in order}, SETTINGS)
        assert [int(speech[0]) for speech in regressors.choice({"b"}, 20)] == [0, 2, 3]
        assert len(regressors.choice({"b"}, 2)) == 2


def test_a_floor_of_lip_closure_stands_beside_a_value_alone(studio):
    lips = studio.spoken(2)[0]
    own = ClipResult(files("a"), {"real": [lips], "generated": [lips]})
    at_rest = [Phone("m", place / 25, (place + 1) / 25) for place in np.flatnonzero(lips < 0.2)]
    judges = studio.stand_ins()
    judges.hashes["phones"] = "3" * 64
    found = closures(own, at_rest, at_rest, studio.PROTOCOL, judges)
    assert set(found) == {"lip_closure_real", "lip_closure", "lip_closure_shuffled"}
    assert closures(own, [Phone("m", 100, 101)], at_rest, studio.PROTOCOL, judges) == {}


def test_lip_closure_is_judged_where_phones_are_known(videos, reference, results, tmp_path, studio):
    assert "put STEM.TextGrid beside the real video" in studio.whys(results, "*")
    assert "lip_closure" not in results["metrics"]
    aligned = studio.with_phones(reference, tmp_path / "reference")
    (aligned / "cleo.phones.csv").rename(aligned / "cleo.TextGrid")  # is none
    found = studio.judge_videos(videos, aligned)
    value = found["value"]
    assert found["metrics"]["lip_closure"]["n"] == 2
    assert min(value["lip_closure"], value["lip_closure_real"]) > 0.9
    assert "lip_closure_share: fewer than 6 identities" in studio.whys(found, "*").replace(
        "av_corr_share, ", ""
    )
    assert value["lip_closure_shuffled"] < value["lip_closure"] - 0.1
    assert "lip_closure_still" not in value  # lips at rest say nothing
    assert "cleo.TextGrid: damaged TextGrid" in studio.whys(found, "cleo")
    assert "put STEM.TextGrid beside" in studio.whys(found, "mute")
    assert found["protocol"]["hash"] != results["protocol"]["hash"]  # the alignments are part of the judging
    assert "lip_closure" in found["protocol"]["measures"]
    (tmp_path / "v").mkdir()
    shutil.copy(videos / "ben.mp4", tmp_path / "v")
    write_video(tmp_path / "v/a1.mp4", 0 * studio.draw(*(np.zeros(60),) * 2, 0))
    found = studio.judge_videos(tmp_path / "v", aligned)
    assert "lip_closure: the video or the real clip shows no face" in studio.whys(found, "a1")


@pytest.mark.parametrize(("fault", "clips"), [("absent", 1), ("damaged", 2)])
def test_phones_that_are_not_there_cost_lip_closure_alone(fault, clips, videos, reference, tmp_path, studio):
    aligned = studio.with_phones(reference, tmp_path / "reference")
    if fault == "absent":  # ben's are the only ones
        (aligned / "anna/a1.phones.csv").unlink()
        (aligned / "cleo.phones.csv").unlink()
        why, clip = "lip_closure_share: no clip has a value, the real one and the shuffled one", "*"
    else:
        (aligned / "cleo.phones.csv").write_text('start,end,phone\n0,1,"' + "a" * 140_000)
        why, clip = "cleo.phones.csv: wants columns start,end,phone", "cleo"
    found = studio.judge_videos(videos, aligned)
    assert found["metrics"]["lip_closure"]["n"] == clips
    assert why in studio.whys(found, clip)
