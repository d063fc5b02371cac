"""The evaluation of rendered clips by stand-in judges: what is judged, what is not and why, and what moves no number."""

import dataclasses
import re
import shutil

import av
import numpy as np
import pytest
import torch

from datamodules.clips.manifest import read_manifest, write_manifest
from datamodules.errors import UserError
from datamodules.faces.framing import SquareCrop
from datamodules.media.audio import write_wav
from datamodules.media.video import read_video, write_video
from metrics.evaluation import aggregate, remarks
from metrics.evaluation.clip_results import mean_over_takes
from metrics.evaluation.clips import entry, match_videos
from metrics.evaluation.intervals import UNKNOWN
from metrics.evaluation.loading import load_clip
from metrics.evaluation.picture_distances import window_starts
from metrics.evaluation.protocol import get_protocol
from metrics.evaluation.registry import MEASURES
from metrics.fid import FrechetInceptionDistance
from metrics.fvd import FrechetVideoDistance, draw_windows
from metrics.landmarks import rigid_jitter
from metrics.training_measures import TrainingMeasures

FRAMES = 60


@pytest.fixture
def write(studio, tmp_path):
    """Writes a method's video of a reference clip by its number."""

    def write_clip(
        name, number, scale=0.5, sway=None, folder=tmp_path, faceless=slice(0), frames=FRAMES, rest=0.0
    ):
        folder.mkdir(exist_ok=True, parents=True)
        lips = studio.spoken(number)[0]
        sway = 0 * lips if sway is None else sway
        made = studio.draw(rest + scale * (lips - rest), sway, max(0, number - 1) % 3)[:frames]
        made[faceless] = 0
        write_video(folder / f"{name}.mp4", made, crf=8)
        return folder

    return write_clip


def test_what_cannot_be_judged_is_listed_and_the_rest_is_judged(results, studio):
    assert [one["clip"] for one in results["clips"]] == ["a1", "ben", "cleo", "mute"]
    assert "has 50 frames at 25 fps, the reference 60" in studio.whys(results, "a2")
    assert "no reference clip of this stem" in studio.whys(results, "stranger")
    faceless = "generated: 5 of 60 frames: no face found; the measures of faces leave these"
    assert faceless in studio.whys(results, "cleo")
    assert "no sound track" in studio.whys(results, "mute")
    everywhere = studio.whys(results, "*")
    assert "lse_d, lse_c, av_offset: syncnet_v2.model: model file not found" in everywhere
    assert "lip_closure: no phone times" in everywhere
    assert re.search("blink_interval_distance[a-z_, ]*: fewer than five intervals", everywhere)
    notes = results["notes"]
    assert "resized from 96x96 to 64x64: ben" in notes
    for start in ("4 of 5 clips judged", "av_*: the regression was fitted on too few clips (2, under 5)",
                  "av_corr, av_lag: 3 of the clips last under 75"):  # fmt: skip
        assert any(note.startswith(start) for note in notes)
    assert {one["clip"] for one in results["missing"] if one["what"] == "partner"} == {"stranger"}
    assert "av_corr" not in studio.clip_of(results, "mute")


def test_rows_say_what_they_should(results):
    value, metrics = results["value"], results["metrics"]
    assert value["head_motion_real"] > 0.5 > 5 * value["head_motion"]
    assert value["head_motion_still"] == pytest.approx(0, abs=1e-6)
    assert value["mouth_motion"] == pytest.approx(0.5 * value["mouth_motion_real"], rel=0.1)
    assert value["mouth_lmd_codec"] < 0.3 * value["mouth_lmd"] < 0.3 * 0.2
    assert value["csim"] > 0.99
    assert value["csim_still"] == pytest.approx(1)
    assert value["av_corr_real"] > 0.6
    assert value["av_corr_zero"] > value["av_corr_zero_shuffled"] + 0.3
    assert value["av_lag_real"] == 0
    assert value["av_retrieval"] > 0.8
    assert value["motion_frechet_codec"] < value["motion_frechet"]
    assert value["head_velocity_distance"] > value["head_velocity_distance_codec"]
    assert value["av_corr_share"] is None  # of three people nothing is known of chance
    assert "av_corr_still" not in value  # lips that don't move have none
    assert "psnr" not in value  # generation is not judged frame by frame
    assert metrics["csim"]["n"] == 4
    assert metrics["mouth_motion"]["low"] < value["mouth_motion"] < metrics["mouth_motion"]["high"]
    assert results["clips"][0]["identity"] == "anna"


def test_reconstruction_is_judged_frame_by_frame(videos, reference, results, studio):
    protocol = get_protocol("talking-head-v2", "reconstruction", size=64, max_frames=30)
    found = studio.judge_videos(videos, reference, protocol=protocol)
    value = found["value"]
    assert value["psnr_codec"] > value["psnr"] + 3
    assert value["ssim_codec"] > value["ssim"]
    assert value["akd_codec"] < value["akd"]
    assert value["lmd"] > 0
    assert value["aed"] < 0.05
    assert "mouth_lmd" not in value
    assert found["protocol"]["hash"] != results["protocol"]["hash"]
    assert "a2" not in {one["clip"] for one in found["clips"]}  # 50 frames are not 60, however few are judged


def dimmed(clip):
    """The row of an autoencoder that gives the frames back a little darker."""
    if clip.real.shape[1] != clip.real.shape[2]:
        why = entry(clip.files.name, "row autoencoder", "no square")
        return dataclasses.replace(clip, missing=(why,))
    made = (clip.real * 0.9).round().astype(np.uint8)
    return dataclasses.replace(clip, rows={**clip.rows, "autoencoder": (made,)})


def test_a_further_row_and_a_clip_that_lacks_it(videos, reference, tmp_path, studio):
    for name in ("ben", "cleo", "mute"):
        for source, folder in ((reference, "reference"), (videos, "videos")):
            frames = read_video(source / f"{name}.mp4")
            if name == "ben":  # no square
                frames = np.concatenate([frames, frames[:, :, : frames.shape[2] // 2]], axis=2)
            (tmp_path / folder).mkdir(exist_ok=True)
            write_video(tmp_path / folder / f"{name}.mp4", frames, crf=8)
    places = (tmp_path / "videos", tmp_path / "reference")
    found = studio.judge_videos(*places, studio.all_judges(), autoencoder=dimmed)
    assert "row autoencoder: no square" in studio.whys(found, "ben")
    there = {one["clip"]: "csim_autoencoder" in one for one in found["clips"]}
    assert there == {"ben": False, "cleo": True, "mute": True}
    assert found["metrics"]["motion_frechet_autoencoder"]["n"] == 2
    assert found["metrics"]["motion_frechet"]["n"] == found["metrics"]["fid"]["n"] == 3
    names = ("fid_autoencoder", "kid_autoencoder", "fvd_autoencoder")
    assert [found["value"][name] for name in names] == [None] * 3
    whys = studio.whys(found, "*")
    assert all(re.search(f"{name}[a-z0-9_, ]*: some clips lack this row", whys) for name in names)


def test_seeds_are_averaged_and_their_best_and_spread_given(reference, tmp_path, studio, write):
    for seed, scale in enumerate((1.0, 0.3)):
        for number, name in ((0, "a1"), (2, "ben")):
            write(name, number, scale, folder=tmp_path / f"seed{seed}")
    (tmp_path / "seed1/ben.mp4").unlink()
    found = studio.judge_videos(tmp_path, reference, seeds=True)
    assert [one["clip"] for one in found["clips"]] == ["a1"]
    assert "seed folders seed1" in studio.whys(found, "ben")
    one = found["clips"][0]
    assert one["mouth_lmd_best_of_2"] < one["mouth_lmd"]
    assert one["mouth_diversity"] > one["mouth_lmd_best_of_2"]


@pytest.mark.parametrize("faceless", [0, 1])
def test_the_best_take_does_not_depend_on_the_order_of_seeds(faceless, reference, tmp_path, studio, write):
    """Without a face in one take nothing is known of the best, whichever folder it lies in; other clips have theirs."""
    for seed in (0, 1):
        lost = slice(None) if seed == faceless else slice(0)
        write("ben", 2, folder=tmp_path / f"seed{seed}", faceless=lost)
        write("cleo", 3, folder=tmp_path / f"seed{seed}")
    found = studio.judge_videos(tmp_path, reference, seeds=True)
    assert np.isnan(found["clips"][0]["mouth_lmd_best_of_2"])
    assert found["metrics"]["mouth_lmd_best_of_2"]["n"] == 1


def test_motion_of_several_takes_is_compared_each_by_itself(reference, tmp_path, studio, write):
    distances = []
    for take, scale in enumerate((1.0, 0.2)):
        folder = tmp_path / f"takes/seed{take}"
        for number, name in ((0, "a1"), (2, "ben")):
            sway = scale * 2 * np.sin(np.arange(FRAMES) / 6 + number)
            write(name, number, 1.0, sway, folder=folder)
        distances.append(studio.judge_videos(folder, reference)["value"]["head_velocity_distance"])
    both = studio.judge_videos(tmp_path / "takes", reference, seeds=True)
    assert distances[1] > 5 * distances[0]
    assert both["value"]["head_velocity_distance"] == pytest.approx(np.mean(distances))


def test_a_face_that_is_seldom_seen_is_not_judged(videos, reference, tmp_path, studio, write):
    """Half the frames black: what is left would be nearer to the source, and calmer."""
    write("ben", 2, 1.0, 3 * np.sin(np.arange(FRAMES) / 4), faceless=slice(30, None))
    shutil.copy(videos / "cleo.mp4", tmp_path)
    found = studio.judge_videos(tmp_path, reference, studio.all_judges())
    why = "30 of 60 frames: no face found; the measures of faces have no value, as these are over"
    assert why in studio.whys(found, "ben")
    ben = studio.clip_of(found, "ben")
    faces = "csim jitter mouth_motion head_motion mouth_lmd av_corr flicker sharpness_mouth"
    assert all(np.isnan(ben[name]) for name in faces.split())
    assert ben["csim_real"] > 0.99
    for name in ("csim", "jitter", "motion_frechet", "head_velocity_distance"):
        assert found["metrics"][name]["n"] == 1  # cleo alone
    assert any(note.startswith(f"{remarks.LOST}, in ben:") for note in found["notes"])
    (tmp_path / "cleo.mp4").unlink()
    nothing = studio.judge_videos(tmp_path, reference)
    told = " ".join(one["what"] + "," for one in nothing["missing"] if one["clip"] == "*")
    for name in ("csim", "jitter", "motion_frechet", "av_corr"):
        assert nothing["value"][name] is None
        assert f"{name}," in told
    assert nothing["value"]["csim_real"] > 0.99
    assert f"{remarks.LOST}, in every clip: measures of faces have no value" in nothing["notes"]


def test_a_face_that_stands_still_has_no_lip_sync(reference, tmp_path, studio, write):
    """What the codec makes of still lips must not be held against speech; the other clips are told to be fewer."""
    write("ben", 2, 0.01 * 0.5, rest=0.25)
    write("cleo", 3)
    found = studio.judge_videos(tmp_path, reference)
    assert found["metrics"]["av_corr"]["n"] == 1
    assert found["metrics"]["av_corr_real"]["n"] == 2
    assert "av_corr, av_corr_zero, av_lag" in studio.whys(found, "ben")
    assert any(note.startswith("the method's lips hardly move in ben:") for note in found["notes"])
    (tmp_path / "cleo.mp4").unlink()
    found = studio.judge_videos(tmp_path, reference)
    assert "the method's lips hardly move in any clip: av_* have no value" in found["notes"]


def test_judges_out_of_their_field_are_told(fake_clips, tmp_path, studio):
    """Synthetic heads under the judges of real faces, recorded clips, which have annotations too, under the others."""
    recorded = tmp_path / "recorded"
    shutil.copytree(fake_clips, recorded)
    records = read_manifest(recorded)
    write_manifest(recorded, [dataclasses.replace(record, source="talk.mp4") for record in records])
    test = next(record for record in records if record.split == "test")
    (tmp_path / "v").mkdir()
    shutil.copy(fake_clips / test.video, tmp_path / f"v/{test.id}.mp4")
    for folder, name, hint in (
        (fake_clips, "talking-head-v2", ["--protocol synthetic-v2"]),
        (fake_clips, "synthetic-v2", []),
        (recorded, "talking-head-v2", []),
        (recorded, "synthetic-v2", ["--protocol talking-head-v2 for real faces"]),
    ):
        found = studio.judge_videos(tmp_path / "v", folder, protocol=get_protocol(name, size=64))
        assert [note.partition(": take ")[2] for note in found["notes"] if ": take --" in note] == hint


def test_every_judge_is_asked_about_what_it_should(videos, reference, studio):
    """Values of the judges over all clips, and of lip sync, against the same ones fed by hand."""
    judges = studio.all_judges(
        facts={"name": "x", "held_out_r2": {"yaw": 0.9, "blink": 0.2, "lip_width": 0.1}}
    )
    fewer = dataclasses.replace(studio.PROTOCOL.shares, fewest_identities=2)
    windows = dataclasses.replace(studio.PROTOCOL.fvd, windows=40)
    protocol = dataclasses.replace(studio.PROTOCOL, shares=fewer, fvd=windows)
    found = studio.judge_videos(videos, reference, judges, protocol)
    value = found["value"]
    files = [one for one in match_videos(videos, reference)[0].judged if one.name != "a2"]
    clips = [load_clip(one, protocol.reading) for one in files]
    fid, fvd = FrechetInceptionDistance(judges.inception), FrechetVideoDistance(judges.i3d)
    drawn = draw_windows([FRAMES] * 5, windows)  # a2 is drawn from too, and fails
    names = ["a1", "a2", "ben", "cleo", "mute"]
    own = {}
    for clip in clips:
        for frames, real in ((clip.real, True), (clip.rows["generated"][0], False)):
            images = torch.from_numpy(frames).permute(0, 3, 1, 2)
            fid.update(images, real=real)
            for place, start in drawn:
                if names[place] == clip.files.name:
                    fvd.update(images[None, start : start + 16], real=real)
        if clip.waveform is not None:  # the last images are the method's
            own[clip.files.name] = studio.hear(images, np.zeros(1), [clip.waveform], protocol)[0]
    assert value["fid"] == pytest.approx(float(fid.compute()), rel=1e-6)
    assert value["fvd"] == pytest.approx(float(fvd.compute()), rel=1e-6)
    for name in ("fid", "kid", "fvd"):
        one = found["metrics"][name]
        assert one["n"] == 4
        assert one["low"] < value[name] < one["high"]
        assert value[f"{name}_codec"] < value[name]
        assert value[f"{name}_floor"] is not None
    (weak,) = [note for note in found["notes"] if "the judge of motion is weak" in note]
    assert weak.endswith("blink 0.20")  # the lips' width is no part of any measure
    for name in ("lse_d", "lse_c"):
        assert found["metrics"][name]["n"] == 3  # one is mute
        assert value[name] == pytest.approx(np.mean([one[name] for one in own.values()]))
        told = {one["clip"]: one[name] for one in found["clips"] if name in one}
        assert told == pytest.approx({clip: one[name] for clip, one in own.items()})
    assert value["lse_c"] > 4 > 3 > value["lse_c_shuffled"]
    assert value["lse_d"] < 6 < 7 < value["lse_d_shuffled"]
    assert 0.5 < value["lse_c_share"] < 1.1  # asked of three people here
    assert value["av_offset"] == value["av_offset_real"] == 0
    assert not {"lse_d", "fid", "fvd"} & {one["what"] for one in found["missing"]}


def test_no_share_is_given_between_rows_that_chance_parts(studio):
    people = ["anna", "ben", "cleo", "dora", "emil", "fred"]
    method = np.array([0.3, 0.4, 0.35, 0.3, 0.4, 0.3])
    shuffled = np.array([0.1, 0.0, 0.05, 0.1, 0.0, 0.1])

    def share(real, who=people, higher=True):
        return aggregate.share(np.stack([method, real, shuffled], axis=1), who, studio.PROTOCOL, higher)

    found = share(shuffled + 0.5)
    assert found.value == pytest.approx((method - shuffled).mean() / 0.5)
    assert found.low < found.value < found.high
    assert share(shuffled + np.array([0.2, -0.2, 0.3, -0.25, 0.1, 0])).value is None
    assert share(shuffled + 0.5, ["anna"] * 6) == UNKNOWN  # of one person nothing is known of chance
    assert share(shuffled + 0.5, [*people[:5], "anna"]) == UNKNOWN  # of five they may be better by luck
    assert share(np.where(np.arange(6) == 5, np.nan, shuffled + 0.5)) == UNKNOWN
    assert share(shuffled - 0.5) == share(shuffled + 0.5, higher=False) == UNKNOWN  # prefers foreign speech
    assert share(shuffled - 0.5, higher=False).value == pytest.approx(-found.value)
    assert share(shuffled) == UNKNOWN
    tied = share(shuffled + np.array([0.5, 0.4, 0.6, 0, 0.5, 0.4]))  # some draws are of dora alone
    assert tied.value is not None
    assert tied.low is None or np.isfinite(tied.low)


def test_lags_are_told_by_their_median(reference, tmp_path, studio):
    """One clip far out of sync does not move the offset of three; a mean of takes would not be a lag."""
    for number, name in ((0, "a1"), (1, "a2"), (2, "ben"), (3, "cleo")):
        lips = studio.spoken(number)[0]
        late = 9 if name == "cleo" else 0
        write_video(tmp_path / f"{name}.mp4", studio.draw(np.roll(lips, -late), 0 * lips, 0), crf=8)
    found = studio.judge_videos(tmp_path, reference, studio.all_judges())
    assert [one["av_offset"] for one in found["clips"]] == [0, 0, 0, 9]
    assert found["value"]["av_offset"] == 0
    takes = [{"av_offset_real": value, "lse_d": value} for value in (0, 0, 9)]
    assert mean_over_takes(takes) == {"av_offset_real": 0, "lse_d": 3}


def test_the_detectors_own_trembling_is_taken_off(reference, tmp_path, studio, write):
    """A face model that sees every second frame a little higher: still frames have no jitter left."""

    def trembling(frames):
        curves, points = studio.watch(frames)
        points[1::2, [33, 133, 168], 1] += 2
        return curves, points

    write("ben", 2, 1.0)
    found = studio.judge_videos(tmp_path, reference, studio.stand_ins(detector=trembling))
    still = rigid_jitter(trembling(np.repeat(read_video(tmp_path / "ben.mp4")[:1], 60, axis=0))[1], 0.0)
    assert still > 0.01
    assert found["clips"][0]["jitter"] < 0.2 * still


def test_both_are_cut_to_the_face(reference, tmp_path, studio):
    """The made video has the face at another place of a larger picture; cut to it, the two are alike."""
    wide = np.zeros((FRAMES, 96, 160, 3), np.uint8)
    wide[:, 20:84, 80:144] = read_video(reference / "ben.mp4")
    write_video(tmp_path / "ben.mp4", wide, crf=4)

    def crop(looks):
        return SquareCrop(80, 20, 64) if looks.shape[2] == 160 else SquareCrop(0, 0, 64)

    protocol = get_protocol("talking-head-v2", size=64, crop="face")
    one = studio.judge_videos(tmp_path, reference, protocol=protocol, crop=crop)["clips"][0]
    assert one["head_motion"] == pytest.approx(one["head_motion_real"], rel=0.05)
    assert one["mouth_motion"] == pytest.approx(one["mouth_motion_real"], rel=0.05)
    assert one["csim"] > 0.999


def test_real_clips_without_a_video_help_the_fit(videos, reference, tmp_path, studio):
    """One video alone has lip sync too: the regression is fitted on the other people of the reference."""
    shutil.copy(videos / "ben.mp4", tmp_path)
    found = studio.judge_videos(tmp_path, reference)
    assert found["value"]["av_corr"] > 0.5
    assert found["metrics"]["av_corr"]["low"] is None  # one identity
    # shuffled: against the speech of one of them
    assert found["value"]["av_corr_zero_shuffled"] < found["value"]["av_corr_zero"] - 0.3


@pytest.mark.parametrize("faceless", [0, 10])
def test_a_video_that_fails_or_is_shorter_moves_no_other_clips_values(
    faceless, reference, tmp_path, studio, write
):
    """Results of one hash: whatever a method does to some clips, the others are judged by the same real clips.

    The real clip whose video fails may show its face too seldom: then it teaches nothing, judged or not.
    """
    aligned = studio.with_phones(reference, tmp_path / "reference")
    lips, speech = studio.spoken(3)
    frames = studio.draw(lips, np.zeros(FRAMES), 2)
    frames[:faceless] = 0
    write_video(aligned / "cleo.mp4", frames, audio=speech, crf=8)
    found = []
    for name in ("whole", "worse"):
        for number, stem in enumerate(("a1", "a2", "ben", "cleo")):
            short = 2 if (name, stem) == ("worse", "ben") else 0
            write(stem, number, folder=tmp_path / name, frames=FRAMES - short)
        if name == "worse":
            (tmp_path / name / "cleo.mp4").write_bytes(b"no video")
        found.append(studio.judge_videos(tmp_path / name, aligned))
    assert found[0]["protocol"] == found[1]["protocol"]
    whole, worse = ({one["clip"]: one for one in each["clips"]} for each in found)
    assert set(worse) == {"a1", "a2", "ben"}
    assert whole["ben"]["av_corr_real"] != worse["ben"]["av_corr_real"]  # of 58 frames
    for name in ("a1", "a2"):
        assert str(worse[name]) == str(whole[name])  # every digit, and NaN is NaN
    # The phones of the floor are those of a clip that could not be judged.
    (tmp_path / "reference/ben.phones.csv").unlink()
    again = studio.judge_videos(tmp_path / "worse", aligned)
    assert "lip_closure_shuffled" in again["clips"][0]


def test_a_real_clip_that_seldom_shows_its_face_is_on_neither_side(reference, tmp_path, studio):
    """The method's videos are the intact originals: they are as good as any, and not held against other clips."""
    shutil.copytree(reference, tmp_path / "reference")
    (tmp_path / "videos").mkdir()
    for name in ("ben", "cleo"):
        shutil.copy(reference / f"{name}.mp4", tmp_path / "videos")
    frames = read_video(reference / "ben.mp4")
    frames[20:40] = 0
    write_video(tmp_path / "reference/ben.mp4", frames, audio=studio.spoken(2)[1], crf=8)
    found = studio.judge_videos(tmp_path / "videos", tmp_path / "reference")
    assert found["metrics"]["motion_frechet"]["n"] == 1
    assert found["value"]["motion_frechet"] == pytest.approx(0, abs=1e-3)
    assert found["value"]["head_velocity_distance"] == pytest.approx(0, abs=1e-3)
    start = "the real face is missing in more than a tenth of the frames, in ben:"
    assert any(note.startswith(start) for note in found["notes"])
    ben = studio.clip_of(found, "ben")
    assert ben["csim"] > 0.99  # the source shows the face
    assert ben["csim_still"] == pytest.approx(1)
    assert np.isnan(ben["csim_real"])
    told = studio.whys(found, "ben")
    assert "real: 20 of 60 frames: no face found" in told
    assert not re.search(r"still: \d", told)
    assert re.search("mouth_lmd, sharpness_mouth, sharpness_eyes[a-z_, ]*: the video or the real clip", told)


def test_silence_is_no_speech(videos, reference, tmp_path, studio):
    """Nothing is learnt from it, and nobody's lips are held against it."""
    folder = tmp_path / "reference"
    shutil.copytree(reference, folder)
    write_wav(folder / "ben.wav", np.zeros(FRAMES * 640, np.float32))
    found = studio.judge_videos(videos, folder)
    assert "ben.wav: its sound is silence throughout" in studio.whys(found, "ben")
    one = studio.clip_of(found, "a1")
    assert one["av_corr"] > one["av_corr_zero_shuffled"]  # of cleo, who is next


@pytest.mark.parametrize("error", [ValueError, UserError, OSError])
def test_what_a_judge_refuses_costs_its_clip_alone(error, videos, reference, studio):
    def picky(frames):
        if frames[0, 24, 40, 0] == read_video(reference / "ben.mp4")[0, 24, 40, 0]:
            raise error("this face is too much")
        return studio.watch(frames)

    found = studio.judge_videos(videos, reference, studio.stand_ins(detector=picky))
    assert "this face is too much" in studio.whys(found, "ben")
    assert {"a1", "cleo", "mute"} == {one["clip"] for one in found["clips"]}


def test_tags_in_another_code_harm_nothing(videos, reference, tmp_path, studio):
    folder = tmp_path / "reference"
    shutil.copytree(reference, folder)
    path, plain_path = folder / "ben.mp4", tmp_path / "plain.mp4"
    path.rename(plain_path)
    with av.open(str(plain_path)) as source, av.open(str(path), "w") as copy:
        copy.metadata["title"] = "filmXs"
        tracks = {one.index: copy.add_stream_from_template(one) for one in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = tracks[packet.stream.index]
                copy.mux(packet)
    content = path.read_bytes()
    assert content.count(b"filmXs") == 1
    path.write_bytes(content.replace(b"filmXs", "filmés".encode("latin-1")))
    assert "ben" in {one["clip"] for one in studio.judge_videos(videos, folder, studio.all_judges())["clips"]}


def test_windows_are_drawn_from_the_frames_that_are_judged():
    starts = window_starts([60, 18], get_protocol("talking-head-v2", max_frames=20))
    assert [max(of_clip) for of_clip in starts] == [20 - 16, 18 - 16]


def test_a_still_view_is_the_first_frame_as_often(reference, studio):
    view = studio.stand_ins().detect(read_video(reference / "ben.mp4"), studio.PROTOCOL)
    still, taken = view.still(20), view.select(np.zeros(20, dtype=np.int64))
    assert torch.equal(still.frames, taken.frames)
    assert torch.equal(still.still_faces, taken.still_faces)
    assert (still.landmarks == taken.landmarks).all()
    assert (still.motion.lip_opening == taken.motion.lip_opening).all()


def test_in_training_the_source_is_known_where_the_real_face_is_mostly_lost(studio):
    """As in an evaluation: the first frame shows it, however many of the others do not."""
    lips, speech = studio.spoken(0)
    real, made = (studio.draw(share * lips, 0 * lips, 0) for share in (1, 0.5))
    real[20:40] = 0
    measures = TrainingMeasures([MEASURES["csim"]], studio.PROTOCOL, studio.all_judges())
    clips = (torch.from_numpy(clip).permute(0, 3, 1, 2) for clip in (real, made))
    measures.add_clip(*clips, torch.from_numpy(speech))
    assert measures.compute()["csim"] == pytest.approx(1, abs=1e-3)
