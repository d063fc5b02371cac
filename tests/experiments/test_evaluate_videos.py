import dataclasses
import re
import shutil
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

from datamodules.assets import MissingAssetError
from datamodules.clips.manifest import read_manifest, write_manifest
from datamodules.clips.phones import Phone
from datamodules.errors import UserError
from datamodules.faces.finding import FaceBox
from datamodules.faces.framing import SquareCrop, framing
from datamodules.media.audio import write_wav
from datamodules.media.video import VideoReader, read_video, write_video
from experiments import evaluate_videos as command
from experiments import selftest, video_pairs, video_summary
from experiments.cli import main
from experiments.corruptions import CORRUPTIONS, corrupt, swapped
from experiments.evaluate_videos import evaluate_videos
from experiments.results import read_results, write_results
from experiments.video_closure import closure_values
from experiments.video_judges import Judges, PooledImages, PooledWindows
from experiments.video_measures import assemble, look
from experiments.video_pairs import (
    Foreign,
    VideoPair,
    find_pairs,
    foreign_speech,
    load_pair,
    reference_clips,
    resize,
    spare_clips,
)
from experiments.video_rows import through_autoencoder, window_starts
from experiments.video_sync import SYNC_ROWS, Heard, Lessons, correlations, over_takes
from metrics.bootstrap import Interval
from metrics.fid import FrechetInceptionDistance
from metrics.fvd import FrechetVideoDistance, draw_windows
from metrics.landmarks import rigid_jitter
from metrics.motion import MotionCurves, lagged_correlation
from metrics.protocol import MEASURES, protocol_settings
from metrics.reconstruction import L1

SIZE, FRAMES = 64, 60
REST = np.random.default_rng(7).uniform(-12, 12, (478, 3))
REST[[33, 263, 133, 362, 168, 6, 197, 195]] = [
    (-12, -6, 0), (12, -6, 0), (-5, -6, 1), (5, -6, 1), (0, -6, 3), (0, -3, 4), (0, 0, 5), (0, 2, 6),
]  # fmt: skip
SETTINGS = protocol_settings("talking-head-v1", size=SIZE)


def draw(lips: np.ndarray, sway: np.ndarray, colour: int) -> np.ndarray:
    """Frames whose upper left corner says lip opening, sway and person in grey; the rest is a moving pattern."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    frames = 128 + 60 * np.sin((columns + sway[:, None, None]) / 3) * np.cos(rows / 4 + colour)
    frames = np.repeat(frames[..., None], 3, axis=-1)
    for place, value in enumerate((200 * lips, 128 + 8 * sway, np.full(len(lips), 80.0 * colour + 40))):
        frames[:, :16, 16 * place : 16 * place + 16] = value[:, None, None, None]
    return frames.round().clip(0, 255).astype(np.uint8)


def watch(frames: np.ndarray) -> tuple[MotionCurves, np.ndarray]:
    """A stand-in for the face model: reads what `draw` wrote; a black frame has no face."""
    scale = frames.shape[1] / SIZE
    side = round(16 * scale)
    lips, sway, _ = (
        frames[:, 2 : side - 2, side * k + 2 : side * (k + 1) - 2].mean(axis=(1, 2, 3)) for k in range(3)
    )
    lips, sway = lips / 200, (sway - 128) / 8
    points = np.repeat(REST[None], len(frames), axis=0)
    points[:, [14, 17], 1] += 6 * lips[:, None]
    points = (points + 32) * scale
    points[..., 0] += scale * sway[:, None]
    lost = frames.reshape(len(frames), -1).max(axis=1) < 20
    rotation = np.stack([sway, 0 * sway, 0 * sway], axis=1)
    for curve in (lips, rotation, points):
        curve[lost] = np.nan
    return MotionCurves(rotation, lips, np.zeros(len(frames))), points


class PersonEmbedder:
    name, sha256 = "persons", "1" * 64

    def embed(self, frames: torch.Tensor, landmarks: np.ndarray | None = None) -> np.ndarray:
        side = frames.shape[-1] // 4
        angle = (
            frames[:, :, 2 : side - 2, 2 * side + 2 : 3 * side - 2].float().mean(dim=(1, 2, 3)).numpy() / 80
        )
        vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        vectors[np.isnan(landmarks).any(axis=(1, 2))] = np.nan
        return vectors


class PictureFields(torch.nn.Module):
    """Stands in for the Inception: how much neighbouring pixels differ in 2 x 2 fields, which blur lessens."""

    num_features = 12

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        edges = images.float().diff(dim=-1).abs()
        return torch.nn.functional.adaptive_avg_pool2d(edges, 2).flatten(1)


class WindowFields(PictureFields):
    """Stands in for I3D: the mean of `PictureFields` over the frames of a window."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return torch.stack([super(WindowFields, self).forward(window).mean(dim=0) for window in windows])


def stand_ins() -> Judges:
    judges = Judges(watch, PersonEmbedder(), hashes={"face": "0" * 64, "persons": "1" * 64})
    why = "syncnet_v2.model: model file not found; get it by `ifmdm assets fetch syncnet_v2.model`"
    judges.missing.append(("lse_d, lse_c, av_offset", why))
    return judges


def spoken(seed: int, frames: int = FRAMES) -> tuple[np.ndarray, np.ndarray]:
    """Lip opening in 0..1 and the speech that goes with it."""
    generator = np.random.default_rng(seed)
    level = np.convolve(generator.uniform(0, 1, frames), np.ones(3) / 3, "same")
    return level, (generator.normal(size=frames * 640) * np.repeat(level, 640) * 0.3).astype(np.float32)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plain folder of four people's clips, one of them twice, one without sound."""
    root = tmp_path_factory.mktemp("reference")
    for number, name in enumerate(("anna/a1", "anna/a2", "ben", "cleo", "mute")):
        lips, speech = spoken(number)
        sway = 2 * np.sin(np.arange(FRAMES) / 6 + number)
        path = root / f"{name}.mp4"
        path.parent.mkdir(exist_ok=True)
        frames = draw(lips, sway, max(0, number - 1) % 3)
        write_video(path, frames, audio=None if name == "mute" else speech, crf=8)
    return root


@pytest.fixture(scope="module")
def videos(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A method's videos: lips as the real ones but half as wide open, still head; some are faulty."""
    root = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(("a1", "a2", "ben", "cleo", "mute")):
        lips, _ = spoken(number)
        frames = draw(0.5 * lips, 0 * lips, max(0, number - 1) % 3)
        if name == "a2":
            frames = frames[:50]  # too short
        if name == "cleo":
            frames[10:15] = 0  # no face
        if name == "ben":
            frames = resize(frames, 96, 96)
        write_video(root / f"{name}.mp4", frames, crf=8)
    shutil.copy(root / "a1.mp4", root / "stranger.mp4")
    return root


@pytest.fixture(scope="module")
def results(videos: Path, reference: Path) -> dict:
    return evaluate_videos(videos, reference, "half", SETTINGS, "talking-head-v1", judges=stand_ins())


def whys(results: dict, clip: str) -> str:
    return "; ".join(f"{one['what']}: {one['why']}" for one in results["missing"] if one["clip"] == clip)


def test_what_cannot_be_judged_is_listed_and_the_rest_is_judged(results):
    assert [one["clip"] for one in results["clips"]] == ["a1", "ben", "cleo", "mute"]
    assert "has 50 frames at 25 fps, the reference 60" in whys(results, "a2")
    assert "no reference clip of this stem" in whys(results, "stranger")
    assert "generated: 5 of 60 frames: no face found; the measures of faces leave these" in whys(
        results, "cleo"
    )
    assert "no sound track" in whys(results, "mute")
    everywhere = whys(results, "*")
    assert "ifmdm assets fetch syncnet_v2.model" in everywhere
    assert "lip_closure: no phone times" in everywhere
    assert "row autoencoder" in everywhere
    assert re.search("blink_interval_distance[a-z_, ]*: fewer than 5 intervals", everywhere)
    assert "resized from 96x96 to 64x64: ben" in results["notes"]
    assert any(note.startswith("4 of 5 clips judged") for note in results["notes"])
    assert any(
        note.startswith("av_*: the regression was fitted on too few clips (2, under 5)")
        for note in results["notes"]
    )
    assert any(note.startswith("av_corr, av_lag: 3 of the clips last under 75") for note in results["notes"])
    assert {one["clip"] for one in results["missing"] if one["what"] == "partner"} == {"stranger"}
    assert "av_corr" not in next(one for one in results["clips"] if one["clip"] == "mute")


def test_rows_say_what_they_should(results):
    value = {name: interval["value"] for name, interval in results["metrics"].items()}
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


def test_intervals_are_by_identity_and_the_form_is_that_of_results(results, tmp_path):
    assert results["metrics"]["csim"]["n"] == 4
    assert results["metrics"]["mouth_motion"]["low"] < results["metrics"]["mouth_motion"]["value"]
    assert results["run"]["identities"] == 4
    assert results["clips"][0]["identity"] == "anna"
    back = read_results(write_results(tmp_path / "results.json", results))
    assert back["protocol"]["name"] == "talking-head-v1"
    assert back["method"] == "half"
    assert back["clips"][2]["csim"] == pytest.approx(results["clips"][2]["csim"])


def test_reconstruction_is_judged_frame_by_frame(videos, reference, results):
    settings = protocol_settings("talking-head-v1", size=SIZE, task="reconstruction", max_frames=30)
    other = evaluate_videos(videos, reference, "half", settings, "talking-head-v1", judges=stand_ins())
    value = {name: interval["value"] for name, interval in other["metrics"].items()}
    assert value["psnr_codec"] > value["psnr"] + 3
    assert value["ssim_codec"] > value["ssim"]
    assert value["akd_codec"] < value["akd"]
    assert value["lmd"] > 0
    assert value["aed"] < 0.05
    assert "mouth_lmd" not in value
    assert other["protocol"]["hash"] != results["protocol"]["hash"]
    assert "a2" not in {one["clip"] for one in other["clips"]}  # 50 frames are not 60, however few are judged


class DimModel(torch.nn.Module):
    """A stand-in for a talking head at half the size, whose autoencoder gives the frames back a little darker."""

    size = SIZE // 2

    def prepare_source(self, image: torch.Tensor) -> torch.Tensor:
        assert image.shape == (3, self.size, self.size)
        return image

    def motion_of(self, frames: torch.Tensor) -> torch.Tensor:
        return frames

    def render(self, source: torch.Tensor, motion: torch.Tensor):
        yield from ((motion + 1) * 115).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def test_the_row_of_a_models_autoencoder(videos, reference, results):
    """Real motion comes back: better than the method's still head, worse than the codec alone."""
    assert "--model" in whys(results, "*")
    settings = protocol_settings("talking-head-v1", size=SIZE, task="reconstruction", max_frames=30)
    found = evaluate_videos(
        videos, reference, "half", settings, "talking-head-v1", judges=stand_ins(), model=DimModel()
    )
    assert "row autoencoder" not in whys(found, "*")
    value = {name: interval["value"] for name, interval in found["metrics"].items()}
    assert value["lmd_codec"] <= value["lmd_autoencoder"] < value["lmd"]
    assert value["psnr_autoencoder"] < value["psnr_codec"]
    assert value["head_motion_autoencoder"] == pytest.approx(value["head_motion_real"], rel=0.2)
    with pytest.raises(ValueError, match="use --crop face"):
        through_autoencoder(DimModel(), np.zeros((2, 64, 48, 3), np.uint8))


def test_a_clip_without_the_autoencoders_row_is_judged_in_the_others(videos, reference, tmp_path):
    for folder in ("reference", "videos"):
        (tmp_path / folder).mkdir()
    for name in ("ben", "cleo", "mute"):
        for source, folder in ((reference, "reference"), (videos, "videos")):
            frames = read_video(source / f"{name}.mp4")
            if name == "ben":  # no square
                frames = np.concatenate([frames, frames[:, :, : frames.shape[2] // 2]], axis=2)
            write_video(tmp_path / folder / f"{name}.mp4", frames, crf=8)
    places = (tmp_path / "videos", tmp_path / "reference")
    found = evaluate_videos(
        *places, "half", SETTINGS, "talking-head-v1", judges=stand_ins(), model=DimModel()
    )
    assert "row autoencoder: 96 x 64 pixels are no square" in whys(found, "ben")
    assert {one["clip"]: "csim_autoencoder" in one for one in found["clips"]} == {
        "ben": False,
        "cleo": True,
        "mute": True,
    }
    assert found["metrics"]["motion_frechet_autoencoder"]["n"] == 2
    assert found["metrics"]["motion_frechet"]["n"] == 3
    found = evaluate_videos(
        *places, "half", SETTINGS, "talking-head-v1", judges=with_all_judges(), model=DimModel()
    )
    assert found["metrics"]["fid"]["n"] == 3
    for name in ("fid_autoencoder", "kid_autoencoder", "fvd_autoencoder"):
        assert found["metrics"][name]["value"] is None
    assert "fid_autoencoder, kid_autoencoder, fvd_autoencoder: some clips lack this row" in whys(found, "*")


def test_seeds_are_averaged_and_their_best_and_spread_given(videos, reference, tmp_path):
    for seed, scale in enumerate((1.0, 0.3)):
        folder = tmp_path / f"seed{seed}"
        folder.mkdir()
        for number, name in ((0, "a1"), (2, "ben")):
            lips, _ = spoken(number)
            write_video(folder / f"{name}.mp4", draw(scale * lips, 0 * lips, max(0, number - 1)), crf=8)
    (tmp_path / "seed1/ben.mp4").unlink()
    found = evaluate_videos(
        tmp_path, reference, "m", SETTINGS, "talking-head-v1", seeds=True, judges=stand_ins()
    )
    assert found["run"]["takes"] == 2
    assert [one["clip"] for one in found["clips"]] == ["a1"]
    assert "seed folders seed1" in whys(found, "ben")
    one = found["clips"][0]
    assert one["mouth_lmd_best_of_2"] < one["mouth_lmd"]
    assert one["mouth_diversity"] > one["mouth_lmd_best_of_2"]
    with pytest.raises(UserError, match="one subfolder for each sampling seed"):
        find_pairs(videos, reference, seeds=True)


@pytest.mark.parametrize("faceless", [0, 1])
def test_the_best_take_does_not_depend_on_the_order_of_seeds(faceless, reference, tmp_path):
    """Without a face in one take nothing is known of the best, whichever folder it lies in."""
    lips, _ = spoken(2)
    for seed in (0, 1):
        (tmp_path / f"seed{seed}").mkdir()
        frames = draw(0.5 * lips, 0 * lips, 1)
        if seed == faceless:
            frames[:] = 0
        write_video(tmp_path / f"seed{seed}/ben.mp4", frames, crf=8)
    found = evaluate_videos(
        tmp_path, reference, "m", SETTINGS, "talking-head-v1", seeds=True, judges=stand_ins()
    )
    assert found["clips"][0]["mouth_lmd_best_of_2"] is None


def test_a_model_that_sees_no_face_costs_its_row_alone(videos, reference):
    class Blind(DimModel):
        def prepare_source(self, image: torch.Tensor) -> torch.Tensor:
            raise UserError("no face in the source")

    found = evaluate_videos(
        videos, reference, "m", SETTINGS, "talking-head-v1", judges=stand_ins(), model=Blind()
    )
    assert [one["clip"] for one in found["clips"]] == ["a1", "ben", "cleo", "mute"]
    assert "row autoencoder: no face in the source" in whys(found, "ben")


def test_a_prepared_folder_gives_identity_split_and_speech(fake_clips, tmp_path):
    records = {record.id: record for record in read_manifest(fake_clips)}
    test = next(record for record in records.values() if record.split == "test")
    for name in (test.id, "fake0"):
        shutil.copy(fake_clips / records[name].video, tmp_path)
    pairs, missing = find_pairs(tmp_path, fake_clips)
    assert [pair.name for pair in pairs] == [test.id]
    assert pairs[0].identity == test.identity
    assert pairs[0].speech.suffix == ".wav"
    assert [one["clip"] for one in missing] == ["fake0"]
    settings = protocol_settings("synthetic-v1")
    clip = load_pair(pairs[0], settings)
    assert clip.real.shape == (90, 32, 32, 3)
    assert len(clip.waveform) == 90 * 640


def test_clips_that_do_not_fit_are_refused(reference, tmp_path):
    lips, _ = spoken(2)
    frames = draw(lips, 0 * lips, 1)
    write_video(tmp_path / "ben.mp4", frames[:, :32])
    (pair,), _ = find_pairs(tmp_path, reference)
    with pytest.raises(ValueError, match="another shape"):
        load_pair(pair, SETTINGS)
    short = protocol_settings("talking-head-v1", size=SIZE, max_frames=8)
    with pytest.raises(ValueError, match="too short"):
        load_pair(pair, short)


def test_only_the_frames_that_are_judged_are_decoded(videos, reference, monkeypatch):
    decoded = []
    get = VideoReader.get

    def counted(reader: VideoReader, indices: np.ndarray) -> np.ndarray:
        decoded.append(len(indices))
        return get(reader, indices)

    monkeypatch.setattr(VideoReader, "get", counted)
    monkeypatch.setattr(video_pairs, "_DECODED", 7 * 3 * SIZE * SIZE)  # in several parts
    pairs = {pair.name: pair for pair in find_pairs(videos, reference)[0]}
    clip = load_pair(pairs["ben"], {**SETTINGS, "max_frames": 20})
    assert sum(decoded) == 40
    assert max(decoded) == 7
    monkeypatch.undo()
    assert (clip.real == read_video(pairs["ben"].reference)[:20]).all()
    assert (clip.takes[0] == resize(read_video(pairs["ben"].takes[0]), SIZE, SIZE)[:20]).all()
    assert clip.waveform.shape == (20 * 640,)
    with pytest.raises(ValueError, match=r"a2\.mp4 has 50 frames at 25 fps, the reference 60"):
        load_pair(pairs["a2"], {**SETTINGS, "max_frames": 20})


def test_stems_match_however_the_file_system_spells_them(videos, reference, tmp_path):
    for folder, form, source in (("v", "NFD", videos / "ben.mp4"), ("r", "NFC", reference / "ben.mp4")):
        (tmp_path / folder).mkdir()
        shutil.copy(source, tmp_path / folder / (unicodedata.normalize(form, "Bjørn-é 名前") + ".MP4"))
    (pair,), missing = find_pairs(tmp_path / "v", tmp_path / "r")
    assert not missing
    assert len(load_pair(pair, SETTINGS)) == FRAMES


def test_people_are_named_alike_however_the_file_system_spells_them(reference, tmp_path):
    clips = []
    for form in ("NFD", "NFC"):
        folder = tmp_path / form
        (folder / unicodedata.normalize(form, "Zoë")).mkdir(parents=True)
        shutil.copy(reference / "ben.mp4", folder / unicodedata.normalize(form, "Zoë"))
        clips.append(reference_clips(folder)["ben"])
    assert clips[0].identity == clips[1].identity == clips[1].voice
    hashes = [video_pairs.split_hashes([clip], []) for clip in clips]
    assert hashes[0] == hashes[1]


def test_files_that_cannot_be_read_are_listed_with_their_name(videos, reference, tmp_path):
    for folder, source in (("v", videos), ("r", reference)):
        (tmp_path / folder).mkdir()
        for name in ("one", "cut", "flat", "good", "empty", "lost"):
            shutil.copy(source / "ben.mp4", tmp_path / folder / f"{name}.mp4")
    (tmp_path / "v/folder.mp4").mkdir()
    write_video(tmp_path / "v/one.mp4", draw(np.zeros(1), np.zeros(1), 0))
    write_video(tmp_path / "v/flat.mp4", draw(np.zeros(FRAMES), np.zeros(FRAMES), 0)[:, :32])
    for name, share in (("cut", 0.5), ("empty", 0)):
        content = (tmp_path / f"v/{name}.mp4").read_bytes()
        (tmp_path / f"v/{name}.mp4").write_bytes(content[: int(share * len(content))])
    (tmp_path / "r/lost.mp4").unlink()
    (tmp_path / "r/lost.mp4").symlink_to(tmp_path / "nowhere.mp4")
    found = evaluate_videos(
        tmp_path / "v", tmp_path / "r", "m", SETTINGS, "talking-head-v1", judges=stand_ins()
    )
    assert [one["clip"] for one in found["clips"]] == ["good"]
    assert "one.mp4 has 1 frames at 25 fps, the reference 60" in whys(found, "one")
    assert "v/cut.mp4: cut off after 1.0 of 2.4 s" in whys(found, "cut")
    assert "v/empty.mp4: the video file is empty" in whys(found, "empty")
    assert "v/flat.mp4: 64 x 32 pixels have another shape" in whys(found, "flat")
    assert "lost" in {one["clip"] for one in found["missing"]}


def test_a_clip_that_vanishes_does_not_end_the_evaluation(fake_clips, tmp_path):
    pair = find_pairs(fake_clips / "clips", fake_clips)[0][0]
    gone = dataclasses.replace(pair, reference=tmp_path / "gone.mp4")
    assert video_pairs.split_hashes([gone], [])["judged"][pair.name]["video"] == "not there"


def test_of_two_faces_one_is_followed(monkeypatch):
    left, right = FaceBox(10, 10, 40, 50, 1.0, "mediapipe"), FaceBox(60, 12, 91, 53, 1.0, "mediapipe")
    moved = FaceBox(64, 12, 93, 53, 1.0, "mediapipe")
    looks = iter([[left, right], [right], [left], [left, moved], [left, right]])
    monkeypatch.setattr(video_pairs, "find_faces", lambda frame: next(looks))
    crop = video_pairs.find_crop(np.zeros((5, 100, 100, 3), np.uint8))
    assert crop == framing(left)
    monkeypatch.setattr(video_pairs, "find_faces", lambda frame: [])
    with pytest.raises(ValueError, match="no face found in 5 of 5"):
        video_pairs.find_crop(np.zeros((5, 100, 100, 3), np.uint8))


def test_resizing_keeps_the_mean_and_does_not_alias():
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    frames[:, ::2] = 200
    small = resize(frames, 16, 16)
    assert small.shape == (2, 16, 16, 3)
    assert small[:, 2:-2].astype(int) == pytest.approx(100, abs=12)
    assert resize(frames, 64, 64) is frames


def test_shuffled_speech_is_the_next_other_voice_that_can_be_heard(tmp_path):
    clips = []
    for number, voice in enumerate("aabcd"):
        path = tmp_path / f"{number}.wav"
        write_wav(path, np.full(1280, (number + 1) / 10, np.float32))
        clips.append(VideoPair(str(number), path, path, (), voice, voice))
    (tmp_path / "2.wav").write_bytes(b"no sound")

    def level(found: Foreign | None) -> float:
        assert found is not None
        assert found.waveform.shape == (3 * 640,)  # repeated to the length
        return float(np.median(found.waveform))

    assert level(foreign_speech(clips, 0, 3)) == pytest.approx(
        0.4, abs=1e-3
    )  # past its own voice and the broken one
    assert foreign_speech(clips, 0, 3).voice == "c"
    assert level(foreign_speech(clips, 4, 3)) == pytest.approx(
        0.1, abs=1e-3
    )  # after the last comes the first
    write_wav(tmp_path / "3.wav", np.zeros(1280, np.float32))
    assert foreign_speech(clips, 0, 3).voice == "d"  # past silence
    assert foreign_speech(clips[:3], 0, 3) is None


def test_lips_made_from_other_speech_do_not_choose_among_it():
    """Lips that follow the foreign speech perfectly would find it whenever it stood for choice."""
    heard, clips = {}, []
    for number, name in enumerate("abcdef"):
        heard[name] = spoken(20 + number, 150)
        clips.append(Heard(name, name, name, heard[name][1], heard[name][0]))
    made = dataclasses.replace(
        clips[0],
        lips={"real": [heard["a"][0]], "generated": [heard["a"][0]], "swapped": [heard["b"][0]]},
        foreign=Foreign("b", heard["b"][1]),
    )
    asked = []

    class Asked(Lessons):
        def choice(self, voices: set[str]) -> list[np.ndarray]:
            asked.append(set(voices))
            return super().choice(voices)

    values, fitted, why = correlations(made, Asked([made, *clips[1:]]))
    assert (fitted, why) == (5, "")
    rows = [*SYNC_ROWS, "shuffled"]
    assert asked == [{"a", "b"} if row in ("swapped", "shuffled") else {"a"} for row in rows]
    assert values["av_retrieval"] > 0.9
    without, _, _ = correlations(made, Lessons([made, *clips[2:]]))  # as if b had never been there to choose
    for row in ("swapped", "shuffled"):
        assert abs(values[f"av_retrieval_{row}"] - without[f"av_retrieval_{row}"]) < 0.1
        assert values[f"av_corr_zero_{row}"] < 0.5 < values["av_corr_zero"]


def test_whose_speech_stands_for_choice_does_not_depend_on_what_was_judged_first():
    clips = [Heard(name, name, name, np.full(640, place), np.zeros(1)) for place, name in enumerate("abcd")]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        chosen = Lessons([clips[place] for place in order]).choice({"b"})
        assert [int(speech[0]) for speech in chosen] == [0, 2, 3]


def test_sound_that_ends_before_the_pictures_is_none(reference, videos, tmp_path):
    shutil.copytree(reference, tmp_path / "reference")
    speech = spoken(2)[1]
    write_wav(tmp_path / "reference/ben.wav", speech[: 58 * 640])
    pair = {one.name: one for one in find_pairs(videos, tmp_path / "reference")[0]}["ben"]
    assert len(load_pair(pair, SETTINGS).waveform) == FRAMES * 640  # two frames of silence
    write_wav(tmp_path / "reference/ben.wav", speech[: 57 * 640])
    clip = load_pair(pair, SETTINGS)
    assert clip.waveform is None
    assert "ben.wav: its sound lasts 57 frames, the pictures 60" in clip.silence


@pytest.mark.parametrize("change", ["sound", "spare sound", "voice", "spare"])
def test_whatever_moves_a_number_moves_the_hash(change, videos, reference, tmp_path):
    folder = tmp_path / "reference"
    shutil.copytree(reference, folder)
    (tmp_path / "videos").mkdir()
    shutil.copy(videos / "a1.mp4", tmp_path / "videos")

    def digest() -> dict:
        pairs, _ = find_pairs(tmp_path / "videos", folder)
        spares = spare_clips(pairs, folder)
        return video_pairs.protocol_record("p", SETTINGS, pairs, spares, {})["hash"]

    before = digest()
    assert before == digest()
    if change == "sound":
        write_wav(folder / "anna/a1.wav", spoken(9)[1])
    elif change == "spare sound":
        write_wav(folder / "ben.wav", spoken(9)[1])
    elif change == "voice":
        (folder / "anna").rename(folder / "hanna")
    else:
        (folder / "cleo.mp4").unlink()
    assert digest() != before


def test_a_face_that_is_seldom_seen_is_not_judged(videos, reference, tmp_path):
    """Half the frames black: what is left would be nearer to the source, and calmer."""
    lips, _ = spoken(2)
    frames = draw(lips, 3 * np.sin(np.arange(FRAMES) / 4), 1)
    frames[30:] = 0
    for name in ("ben", "cleo"):
        shutil.copy(videos / f"{name}.mp4", tmp_path)
    write_video(tmp_path / "ben.mp4", frames, crf=8)
    judges = with_all_judges()
    found = evaluate_videos(tmp_path, reference, "m", SETTINGS, "talking-head-v1", judges=judges)
    assert "30 of 60 frames: no face found; the measures of faces have no value, as these are over" in whys(
        found, "ben"
    )
    ben = next(one for one in found["clips"] if one["clip"] == "ben")
    faces = (
        "csim",
        "jitter",
        "mouth_motion",
        "head_motion",
        "mouth_lmd",
        "av_corr",
        "flicker",
        "sharpness_mouth",
    )
    assert all(ben[name] is None for name in faces)
    assert ben["csim_real"] > 0.99
    for name in ("csim", "jitter", "motion_frechet", "head_velocity_distance"):
        assert found["metrics"][name]["n"] == 1  # cleo alone
    assert any(note.startswith(f"{video_summary.LOST}, in ben:") for note in found["notes"])
    (tmp_path / "cleo.mp4").unlink()
    nothing = evaluate_videos(tmp_path, reference, "m", SETTINGS, "talking-head-v1", judges=stand_ins())
    told = " ".join(one["what"] + "," for one in nothing["missing"] if one["clip"] == "*")
    for name in ("csim", "jitter", "motion_frechet", "av_corr"):
        assert nothing["metrics"][name]["value"] is None
        assert f"{name}," in told
    assert nothing["metrics"]["csim_real"]["value"] > 0.99
    assert f"{video_summary.LOST}, in every clip: measures of faces have no value" in nothing["notes"]


def test_videos_without_a_face_are_no_result(videos, reference, tmp_path, monkeypatch, capsys):
    """Of frames without a face nothing is known but by the judges of whole frames: without these nothing is written."""
    (tmp_path / "v").mkdir()
    write_video(tmp_path / "v/ben.mp4", 0 * draw(*(np.zeros(FRAMES),) * 2, 0))
    words = ["evaluate", "--videos", str(tmp_path / "v"), "--reference", str(reference), "--method", "m"]
    words += ["--size", "64", "--output", str(tmp_path / "out")]
    monkeypatch.setattr(command, "load_judges", lambda *_: stand_ins())
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "not one clip could be judged (ben: generated: 60 of 60 frames: no face found" in err
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(command, "load_judges", lambda *_: with_all_judges())
    assert main(words) == 0
    found = read_results(tmp_path / "out/results.json")
    assert found["metrics"]["fid"]["value"] > 0


def test_a_face_that_stands_still_has_no_lip_sync(reference, tmp_path):
    """What the codec makes of still lips must not be held against speech; the other clips are told to be fewer."""
    for number, name in ((2, "ben"), (3, "cleo")):
        lips, _ = spoken(number)
        wide = 0.01 if name == "ben" else 0.5
        write_video(tmp_path / f"{name}.mp4", draw(0.5 + wide * (lips - 0.5), 0 * lips, number - 1), crf=8)
    found = evaluate_videos(tmp_path, reference, "m", SETTINGS, "talking-head-v1", judges=stand_ins())
    assert found["metrics"]["av_corr"]["n"] == 1
    assert found["metrics"]["av_corr_real"]["n"] == 2
    assert "av_corr, av_corr_zero, av_lag" in whys(found, "ben")
    assert any(note.startswith("the method's lips hardly move in ben:") for note in found["notes"])
    (tmp_path / "cleo.mp4").unlink()
    found = evaluate_videos(tmp_path, reference, "m", SETTINGS, "talking-head-v1", judges=stand_ins())
    assert "the method's lips hardly move in any clip: av_* have no value" in found["notes"]


def test_judges_out_of_their_field_are_told(fake_clips, tmp_path):
    """Synthetic heads under the judges of real faces, recorded clips, which have annotations too, under the others."""
    recorded = tmp_path / "recorded"
    shutil.copytree(fake_clips, recorded)
    records = read_manifest(recorded)
    write_manifest(recorded, [dataclasses.replace(record, source="talk.mp4") for record in records])
    test = next(record for record in records if record.split == "test")
    (tmp_path / "v").mkdir()
    shutil.copy(fake_clips / test.video, tmp_path / f"v/{test.id}.mp4")
    for folder, name, hint in (
        (fake_clips, "talking-head-v1", "take --protocol synthetic-v1"),
        (fake_clips, "synthetic-v1", None),
        (recorded, "talking-head-v1", None),
        (recorded, "synthetic-v1", "take --protocol talking-head-v1 for real faces"),
    ):
        found = evaluate_videos(tmp_path / "v", folder, "m", SETTINGS, name, judges=stand_ins())
        hints = [note for note in found["notes"] if "take --protocol" in note]
        assert len(hints) == (hint is not None)
        assert hint is None or hints[0].endswith(hint)


class LoudLips:
    """Stands in for a SyncNet: how the corner that `draw` paints by the lips goes with the loudness of the sound."""

    def crops(self, frames: torch.Tensor, points: np.ndarray | None) -> torch.Tensor:
        if np.isnan(points).all():
            raise ValueError("no track of a face")
        return frames

    def measure(self, crops: torch.Tensor, speech: list[np.ndarray]) -> list[dict[str, float]]:
        side = crops.shape[-1] // 4
        lips = crops[:, :, 2 : side - 2, 2 : side - 2].float().mean(dim=(1, 2, 3)).numpy()
        loud = [np.sqrt((one.reshape(len(lips), -1) ** 2).mean(axis=1)) for one in speech]
        return [
            {"lse_d": 10 - 5 * found.best, "lse_c": 5 * found.best, "av_offset": -found.lag}
            for found in (lagged_correlation(lips, one, 10) for one in loud)
        ]


def with_all_judges() -> Judges:
    judges = stand_ins()
    judges.missing.clear()
    judges.sync, judges.lpips = LoudLips(), L1()
    judges.images, judges.windows = PooledImages(PictureFields()), PooledWindows(WindowFields())
    return judges


def test_every_judge_is_asked_about_what_it_should(videos, reference, monkeypatch):
    """Values of the judges over all clips, and of lip sync, against the same ones fed by hand."""
    monkeypatch.setattr(video_summary, "FEWEST_IDENTITIES", 2)
    judges = with_all_judges()
    judges.motion = {"name": "x", "held_out_r2": {"yaw": 0.9, "blink": 0.2, "lip_width": 0.1}}
    settings = {**SETTINGS, "fvd": {**SETTINGS["fvd"], "windows": 40}}
    found = evaluate_videos(videos, reference, "half", settings, "talking-head-v1", judges=judges)
    value = {name: interval["value"] for name, interval in found["metrics"].items()}
    pairs = [pair for pair in find_pairs(videos, reference)[0] if pair.name != "a2"]
    clips = [load_pair(pair, settings) for pair in pairs]
    fid, fvd = FrechetInceptionDistance(PictureFields()), FrechetVideoDistance(WindowFields())
    drawn = draw_windows([FRAMES] * 5, 40, settings["fvd"]["seed"])  # a2 is drawn from too, and fails
    names = ["a1", "a2", "ben", "cleo", "mute"]
    for clip in clips:
        for frames, real in ((clip.real, True), (clip.takes[0], False)):
            images = torch.from_numpy(frames).permute(0, 3, 1, 2)
            fid.update(images, real=real)
            for place, start in drawn:
                if names[place] == clip.pair.name:
                    fvd.update(images[None, start : start + 16], real=real)
    assert value["fid"] == pytest.approx(float(fid.compute()), rel=1e-6)
    assert value["fvd"] == pytest.approx(float(fvd.compute()), rel=1e-6)
    for name in ("fid", "kid", "fvd"):
        assert found["metrics"][name]["n"] == 4
        assert found["metrics"][name]["low"] < value[name] < found["metrics"][name]["high"]
        assert value[f"{name}_codec"] < value[name]
        assert value[f"{name}_floor"] is not None
    assert found["metrics"]["lse_c"]["n"] == 3  # one is mute
    assert found["run"]["judge"]["name"] == "x"
    (weak,) = [note for note in found["notes"] if "the judge of motion is weak" in note]
    assert weak.endswith("blink 0.20")  # the lips' width is no part of any measure
    own = {}
    for clip in clips:
        if clip.waveform is not None:
            images = torch.from_numpy(clip.takes[0]).permute(0, 3, 1, 2)
            own[clip.pair.name] = LoudLips().measure(images, [clip.waveform])[0]
    for name in ("lse_d", "lse_c"):
        assert value[name] == pytest.approx(np.mean([one[name] for one in own.values()]))
        assert {one["clip"]: one.get(name) for one in found["clips"] if name in one} == pytest.approx(
            {clip: one[name] for clip, one in own.items()}
        )
    assert value["lse_c"] > 4 > 3 > value["lse_c_shuffled"]
    assert value["lse_d"] < 6 < 7 < value["lse_d_shuffled"]
    assert 0.5 < value["lse_c_share"] < 1.1  # asked of three people here
    assert value["av_offset"] == value["av_offset_real"] == 0
    assert not {"lse_d", "fid", "fvd"} & {one["what"] for one in found["missing"]}


def test_no_share_is_given_between_rows_that_chance_parts():
    people = ["anna", "ben", "cleo", "dora", "emil", "fred"]
    method = np.array([0.3, 0.4, 0.35, 0.3, 0.4, 0.3])
    shuffled = np.array([0.1, 0.0, 0.05, 0.1, 0.0, 0.1])
    apart = np.stack([method, shuffled + 0.5, shuffled], axis=1)
    found = video_summary.share(apart, people)
    assert found.value == pytest.approx((method - shuffled).mean() / 0.5)
    assert found.low < found.value < found.high
    alike = np.stack([method, shuffled + np.array([0.2, -0.2, 0.3, -0.25, 0.1, 0]), shuffled], axis=1)
    assert video_summary.share(alike, people).value is None
    nothing = Interval(None, None, None, 0)
    assert video_summary.share(apart, ["anna"] * 6) == nothing  # of one person nothing is known of chance
    assert video_summary.share(apart, [*people[:5], "anna"]) == nothing  # of five they may be better by luck
    unknown = apart.copy()
    unknown[5, 2] = np.nan
    assert video_summary.share(unknown, people) == nothing
    worse = np.stack([method, shuffled - 0.5, shuffled], axis=1)
    assert video_summary.share(worse, people) == nothing  # a judge that prefers foreign speech
    assert video_summary.share(apart, people, higher=False) == nothing
    assert video_summary.share(worse, people, higher=False).value == pytest.approx(-found.value)
    same = np.stack([method, shuffled, shuffled], axis=1)
    assert video_summary.share(same, people) == nothing
    tied = np.stack([method, shuffled + np.array([0.5, 0.4, 0.6, 0, 0.5, 0.4]), shuffled], axis=1)
    found = video_summary.share(tied, people)  # some draws are of dora alone
    assert found.value is not None
    assert found.low is None or np.isfinite(found.low)


def test_results_have_a_place_before_the_work_begins(videos, reference, tmp_path, capsys, caplog):
    words = ["evaluate", "--videos", str(videos), "--reference", str(reference), "--method", "m"]
    (tmp_path / "out/results.json").mkdir(parents=True)
    assert main([*words, "--output", str(tmp_path / "out")]) == 2
    assert "results.json: is a folder, expected a file" in capsys.readouterr().err
    caplog.set_level("INFO")
    path = tmp_path / "results.json"
    kept = {"protocol": {}, "method": "other", "run": {}, "metrics": {}, "clips": [], "missing": []}
    write_results(path, kept)
    assert not caplog.messages
    write_results(path, {**kept, "method": "m"})
    assert caplog.messages[-1].endswith("takes the place of results of 'other'")


def test_an_unreadable_folder_is_one_line(videos, reference, monkeypatch, capsys):
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert main(["evaluate", "--videos", str(videos), "--reference", str(reference), "--method", "m"]) == 2
    assert capsys.readouterr().err.endswith("may not be read or written; check its permissions\n")


def test_lags_are_told_by_their_median(reference, tmp_path):
    """One clip far out of sync does not move the offset of three; a mean of takes would not be a lag."""
    for number, name in ((0, "a1"), (1, "a2"), (2, "ben"), (3, "cleo")):
        lips = spoken(number)[0]
        late = 9 if name == "cleo" else 0
        write_video(tmp_path / f"{name}.mp4", draw(np.roll(lips, -late), 0 * lips, 0), crf=8)
    found = evaluate_videos(tmp_path, reference, "m", SETTINGS, "talking-head-v1", judges=with_all_judges())
    assert [one["av_offset"] for one in found["clips"]] == [0, 0, 0, 9]
    assert found["metrics"]["av_offset"]["value"] == 0
    assert over_takes("av_offset_real", [0, 0, 9]) == 0
    assert over_takes("lse_d", [0, 0, 9]) == 3


def test_the_detectors_own_trembling_is_taken_off(reference, tmp_path):
    """A face model that sees every second frame a little higher: still frames have no jitter left."""
    lips = spoken(2)[0]
    write_video(tmp_path / "ben.mp4", draw(lips, 0 * lips, 1), crf=8)

    def trembling(frames: np.ndarray) -> tuple[MotionCurves, np.ndarray]:
        curves, points = watch(frames)
        points[1::2, [33, 133, 168], 1] += 2
        return curves, points

    judges = stand_ins()
    judges.watch = trembling
    found = evaluate_videos(tmp_path, reference, "m", SETTINGS, "talking-head-v1", judges=judges)
    one = found["clips"][0]
    still = rigid_jitter(trembling(np.repeat(read_video(tmp_path / "ben.mp4")[:1], 60, axis=0))[1], 0.0)
    assert still > 0.01
    assert one["jitter"] < 0.2 * still


def test_both_are_cut_to_the_face(reference, tmp_path, monkeypatch):
    """The made video has the face at another place of a larger picture; cut to it, the two are alike."""
    frames = read_video(reference / "ben.mp4")
    wide = np.zeros((FRAMES, 96, 160, 3), np.uint8)
    wide[:, 20:84, 80:144] = frames
    write_video(tmp_path / "ben.mp4", wide, crf=4)
    monkeypatch.setattr(
        video_pairs,
        "find_crop",
        lambda looks: SquareCrop(80, 20, 64) if looks.shape[2] == 160 else SquareCrop(0, 0, 64),
    )
    settings = protocol_settings("talking-head-v1", size=SIZE, crop="face")
    found = evaluate_videos(tmp_path, reference, "m", settings, "talking-head-v1", judges=stand_ins())
    one = found["clips"][0]
    assert one["head_motion"] == pytest.approx(one["head_motion_real"], rel=0.05)
    assert one["mouth_motion"] == pytest.approx(one["mouth_motion_real"], rel=0.05)
    assert one["csim"] > 0.999
    as_given = evaluate_videos(tmp_path, reference, "m", settings, "talking-head-v1", judges=stand_ins())
    assert as_given["protocol"]["hash"] == found["protocol"]["hash"]


def test_the_hash_tells_which_judges_were_there(videos, reference, results):
    others = stand_ins()
    others.hashes["persons"] = "2" * 64
    again, changed = (
        evaluate_videos(videos, reference, "half", SETTINGS, "talking-head-v1", judges=judges)["protocol"]
        for judges in (stand_ins(), others)
    )
    assert again["hash"] == results["protocol"]["hash"] != changed["hash"]


def test_real_clips_without_a_video_help_the_fit(videos, reference, tmp_path):
    """One video alone has lip sync too: the regression hears the other people of the reference."""
    shutil.copy(videos / "ben.mp4", tmp_path)
    found = evaluate_videos(tmp_path, reference, "m", SETTINGS, "talking-head-v1", judges=stand_ins())
    assert [one["clip"] for one in found["clips"]] == ["ben"]
    assert found["metrics"]["av_corr"]["value"] > 0.5
    assert found["metrics"]["av_corr"]["low"] is None  # one identity
    one = found["clips"][0]
    assert one["av_corr_zero_shuffled"] < one["av_corr_zero"] - 0.3  # against the speech of one of them


@pytest.mark.parametrize("faceless", [0, 10])
def test_a_video_that_fails_or_is_shorter_moves_no_other_clips_values(faceless, videos, reference, tmp_path):
    """Results of one hash: whatever a method does to some clips, the others are judged by the same real clips.

    The real clip whose video fails may show its face too seldom: then it teaches nothing, judged or not.
    """
    aligned = with_phones(reference, tmp_path / "reference")
    lips, speech = spoken(3)
    frames = draw(lips, np.zeros(FRAMES), 2)
    frames[:faceless] = 0
    write_video(aligned / "cleo.mp4", frames, audio=speech, crf=8)
    found = []
    for name in ("whole", "worse"):
        folder = tmp_path / name
        folder.mkdir()
        for number, stem in enumerate(("a1", "a2", "ben", "cleo")):
            frames = draw(0.5 * spoken(number)[0], np.zeros(FRAMES), max(0, number - 1))
            short = 2 if (name, stem) == ("worse", "ben") else 0
            write_video(folder / f"{stem}.mp4", frames[: FRAMES - short], crf=8)
        if name == "worse":
            (folder / "cleo.mp4").write_bytes(b"no video")
        found.append(evaluate_videos(folder, aligned, name, SETTINGS, "talking-head-v1", judges=stand_ins()))
    assert found[0]["protocol"] == found[1]["protocol"]
    whole, worse = ({one["clip"]: one for one in each["clips"]} for each in found)
    assert set(worse) == {"a1", "a2", "ben"}
    assert whole["ben"]["av_corr_real"] != worse["ben"]["av_corr_real"]  # of 58 frames
    for name in ("a1", "a2"):
        assert worse[name] == whole[name]
    # The phones of the floor are those of a clip that could not be judged.
    (tmp_path / "reference/ben.phones.csv").unlink()
    again = evaluate_videos(tmp_path / "worse", aligned, "m", SETTINGS, "talking-head-v1", judges=stand_ins())
    assert "lip_closure_shuffled" in again["clips"][0]


def test_a_real_clip_that_seldom_shows_its_face_is_on_neither_side(reference, tmp_path):
    """The method's videos are the intact originals: they are as good as any, and not held against other clips."""
    shutil.copytree(reference, tmp_path / "reference")
    (tmp_path / "videos").mkdir()
    for name in ("ben", "cleo"):
        shutil.copy(reference / f"{name}.mp4", tmp_path / "videos")
    frames = read_video(reference / "ben.mp4")
    frames[20:40] = 0
    write_video(tmp_path / "reference/ben.mp4", frames, audio=spoken(2)[1], crf=8)
    places = (tmp_path / "videos", tmp_path / "reference")
    found = evaluate_videos(*places, "m", SETTINGS, "talking-head-v1", judges=stand_ins())
    assert found["metrics"]["motion_frechet"]["n"] == 1
    assert found["metrics"]["motion_frechet"]["value"] == pytest.approx(0, abs=1e-3)
    assert found["metrics"]["head_velocity_distance"]["value"] == pytest.approx(0, abs=1e-3)
    assert any(
        note.startswith("the real face is missing in more than a tenth of the frames, in ben:")
        for note in found["notes"]
    )
    ben = next(one for one in found["clips"] if one["clip"] == "ben")
    assert ben["csim"] > 0.99  # the source shows the face
    assert ben["csim_still"] == pytest.approx(1)
    assert ben["csim_real"] is None
    told = whys(found, "ben")
    assert "real: 20 of 60 frames: no face found" in told
    assert not re.search(r"still: \d", told)
    assert re.search(
        "mouth_lmd, sharpness_mouth, sharpness_eyes[a-z_, ]*: the video or the real clip shows no face", told
    )


def test_silence_is_no_speech(videos, reference, tmp_path):
    """Nothing is learnt from it, and nobody's lips are held against it."""
    folder = tmp_path / "reference"
    shutil.copytree(reference, folder)
    write_wav(folder / "ben.wav", np.zeros(FRAMES * 640, np.float32))
    found = evaluate_videos(videos, folder, "m", SETTINGS, "talking-head-v1", judges=stand_ins())
    assert "ben.wav: its sound is silence throughout" in whys(found, "ben")
    one = next(one for one in found["clips"] if one["clip"] == "a1")
    assert one["av_corr"] > one["av_corr_zero_shuffled"]  # of cleo, who is next


def test_what_a_judge_refuses_costs_its_clip_alone(videos, reference):
    judges = stand_ins()
    usual = judges.watch

    def picky(frames: np.ndarray) -> tuple[MotionCurves, np.ndarray]:
        if frames[0, 24, 40, 0] == read_video(reference / "ben.mp4")[0, 24, 40, 0]:
            raise ValueError("this face is too much")
        return usual(frames)

    judges.watch = picky
    found = evaluate_videos(videos, reference, "m", SETTINGS, "talking-head-v1", judges=judges)
    assert "this face is too much" in whys(found, "ben")
    assert {"a1", "cleo", "mute"} == {one["clip"] for one in found["clips"]}


def test_tags_in_another_code_harm_nothing(videos, reference, tmp_path):
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
    found = evaluate_videos(videos, folder, "m", SETTINGS, "talking-head-v1", judges=with_all_judges())
    assert "ben" in {one["clip"] for one in found["clips"]}


def test_a_floor_of_lip_closure_stands_beside_a_value_alone(videos, reference, tmp_path):
    lips = spoken(2)[0]
    clip = Heard("a", "a", "a", None, lips, {"real": [lips], "generated": [lips]})
    spoken_at_rest = [Phone("m", place / 25, (place + 1) / 25) for place in np.flatnonzero(lips < 0.2)]
    beyond = [Phone("m", 100, 101)]
    assert set(closure_values(clip, spoken_at_rest, spoken_at_rest)) == {
        "lip_closure_real",
        "lip_closure",
        "lip_closure_shuffled",
    }
    assert closure_values(clip, beyond, spoken_at_rest) == {}
    aligned = with_phones(reference, tmp_path / "reference")
    for name in ("anna/a1", "cleo"):  # ben's are the only ones
        (aligned / f"{name}.phones.csv").unlink()
    found = evaluate_videos(videos, aligned, "m", SETTINGS, "talking-head-v1", judges=stand_ins())
    assert found["metrics"]["lip_closure"]["n"] == 1
    assert "lip_closure_share: no clip has a value, the real one and the shuffled one" in whys(found, "*")


def test_a_damaged_phones_file_costs_lip_closure_alone(videos, reference, tmp_path):
    aligned = with_phones(reference, tmp_path / "reference")
    (aligned / "cleo.phones.csv").write_text('start,end,phone\n0,1,"' + "a" * 140_000)
    found = evaluate_videos(videos, aligned, "m", SETTINGS, "talking-head-v1", judges=stand_ins())
    assert "cleo.phones.csv: wants columns start,end,phone" in whys(found, "cleo")
    assert found["metrics"]["lip_closure"]["n"] == 2


def test_windows_are_drawn_from_the_frames_that_are_judged():
    judges = with_all_judges()
    settings = {**SETTINGS, "max_frames": 20}
    starts = window_starts([60, 18], settings, judges)
    assert max(starts[0]) == 20 - 16
    assert max(starts[1]) == 18 - 16
    assert window_starts([60, 18], settings, stand_ins()) == [[], []]


def test_motion_of_several_takes_is_compared_each_by_itself(reference, tmp_path):
    distances = []
    for take, scale in enumerate((1.0, 0.2)):
        folder = tmp_path / f"takes/seed{take}"
        folder.mkdir(parents=True)
        for number, name in ((0, "a1"), (2, "ben")):
            sway = scale * 2 * np.sin(np.arange(FRAMES) / 6 + number)
            write_video(folder / f"{name}.mp4", draw(spoken(number)[0], sway, max(0, number - 1)), crf=8)
        alone = evaluate_videos(folder, reference, "m", SETTINGS, "talking-head-v1", judges=stand_ins())
        distances.append(alone["metrics"]["head_velocity_distance"]["value"])
    both = evaluate_videos(
        tmp_path / "takes", reference, "m", SETTINGS, "talking-head-v1", seeds=True, judges=stand_ins()
    )
    assert distances[1] > 5 * distances[0]
    assert both["metrics"]["head_velocity_distance"]["value"] == pytest.approx(np.mean(distances))


def test_a_file_that_may_not_be_read_costs_its_clip_alone(videos, reference, monkeypatch):
    hashed = video_pairs.file_sha256

    def refuse(path: Path) -> str:
        if path.name == "ben.mp4":
            raise PermissionError(13, "Permission denied", str(path))
        return hashed(path)

    monkeypatch.setattr(video_pairs, "file_sha256", refuse)
    found = evaluate_videos(videos, reference, "m", SETTINGS, "talking-head-v1", judges=stand_ins())
    assert len(found["clips"]) == 4


def test_a_still_view_is_the_first_frame_as_often(reference):
    view = look(read_video(reference / "ben.mp4"), stand_ins())
    still, taken = view.still(20), view.take(np.zeros(20, dtype=np.int64))
    assert torch.equal(still.frames, taken.frames)
    assert torch.equal(still.faces, taken.faces)
    for one, other in ((still.points, taken.points), (still.curves.lip_opening, taken.curves.lip_opening)):
        assert (one == other).all()
    assert len(view.first(7)) == 7
    assert view.first(len(view)) is view


def with_phones(reference: Path, aligned: Path) -> Path:
    """A copy of the reference with an m in the phones wherever the lips are nearly shut."""
    shutil.copytree(reference, aligned)
    for number, name in ((0, "anna/a1"), (2, "ben"), (3, "cleo")):
        lips, _ = spoken(number)
        closed = np.flatnonzero(lips <= np.quantile(lips, 0.08))
        rows = [f"{k / 25},{(k + 1) / 25},{'m' if k in closed else 'a'}" for k in range(FRAMES)]
        (aligned / f"{name}.phones.csv").write_text("\n".join(["start,end,phone", *rows]))
    return aligned


def test_lip_closure_is_judged_where_phones_are_known(videos, reference, results, tmp_path):
    assert "put STEM.TextGrid beside the real video" in whys(results, "*")
    assert "lip_closure" not in results["metrics"]
    aligned = with_phones(reference, tmp_path / "reference")
    (aligned / "cleo.phones.csv").rename(aligned / "cleo.TextGrid")  # is none
    found = evaluate_videos(videos, aligned, "half", SETTINGS, "talking-head-v1", judges=stand_ins())
    value = {name: interval["value"] for name, interval in found["metrics"].items()}
    assert found["metrics"]["lip_closure"]["n"] == 2
    assert min(value["lip_closure"], value["lip_closure_real"]) > 0.9
    assert "lip_closure_share: fewer than 6 identities" in whys(found, "*")
    assert value["lip_closure_shuffled"] < value["lip_closure"] - 0.1
    assert "lip_closure_still" not in value  # lips at rest say nothing
    assert "cleo.TextGrid: damaged TextGrid" in whys(found, "cleo")
    assert "put STEM.TextGrid beside" in whys(found, "mute")
    assert found["protocol"]["hash"] != results["protocol"]["hash"]  # the alignments are part of the judging
    (tmp_path / "v").mkdir()
    shutil.copy(videos / "ben.mp4", tmp_path / "v")
    write_video(tmp_path / "v/a1.mp4", 0 * draw(*(np.zeros(FRAMES),) * 2, 0))
    found = evaluate_videos(tmp_path / "v", aligned, "m", SETTINGS, "talking-head-v1", judges=stand_ins())
    assert "lip_closure: the video or the real clip shows no face" in whys(found, "a1")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--videos", "VIDEOS", "--method", "m"], "give --reference too"),
        (["--videos", "EMPTY", "--reference", "REFERENCE", "--method", "m"], "holds no videos"),
        (["--videos", "VIDEOS", "--reference", "EMPTY", "--method", "m"], "holds no reference videos"),
        (["--videos", "VIDEO", "--reference", "REFERENCE", "--method", "m"], "is a file, expected a folder"),
        (["--videos", "NOWHERE", "--reference", "REFERENCE", "--method", "m"], "no such folder"),
        (
            ["--videos", "VIDEOS", "--reference", "REFERENCE", "--method", "m", "--protocol", "x"],
            "no such protocol",
        ),
        (
            ["--videos", "VIDEOS", "--reference", "REFERENCE", "--method", "m", "--max-frames", "3"],
            "use 16 or more",
        ),
        (["--videos", "VIDEOS", "--reference", "REFERENCE", "--method", "m", "clips=3"], "one form only"),
        (["--task", "reconstruction", "model=synthetic-128"], "--task judges videos"),
        (["--max-frames", "20", "model=synthetic-128"], "--max-frames judges videos"),
        (["--seeds", "model=synthetic-128"], "one form only"),
        (
            ["--videos", "VIDEOS", "--reference", "REFERENCE", "--method", "m", "--size", "100000"],
            "use 4096 or less",
        ),
        (["--videos", "VIDEOS", "--reference", "REFERENCE", "--method", "../.."], "the first no dot"),
        (["--videos", "VIDEOS", "--reference", "REFERENCE", "--method", "a/b"], "a name without /"),
        (["--videos", "VIDEOS", "--reference", "REFERENCE", "--method", ""], "use 1 to 100 letters"),
        (["--videos", "VIDEOS", "--reference", "REFERENCE", "--method", "x" * 300], "use 1 to 100 letters"),
        (
            ["--videos", "VIDEOS", "--reference", "REFERENCE", "--method", "m", "--output", "x" * 300],
            "name of the output folder is too long",
        ),
        (
            ["--videos", "VIDEOS", "--reference", "REFERENCE", "--method", "m", "--judge", "REFERENCE"],
            "give --protocol synthetic-v1",
        ),
        (
            [
                "--videos",
                "VIDEOS",
                "--reference",
                "REFERENCE",
                "--method",
                "m",
                "--protocol",
                "synthetic-v1",
                "--judge",
                "REFERENCE",
            ],
            "judge",
        ),
        (
            ["--videos", "VIDEOS", "--reference", "REFERENCE", "--method", "m", "--protocol", "synthetic-v1"],
            "leave it out for real videos",
        ),
        (["--task", "both"], "invalid choice: 'both'"),
        (["--videos", "VIDEOS", "--reference", "NOWHERE", "--method", "m"], "no such folder of real clips"),
        (["model=synthetic-128", "data.root=NOWHERE"], "no such folder of prepared clips"),
        (
            [
                "--videos",
                "VIDEOS",
                "--reference",
                "REFERENCE",
                "--method",
                "m",
                "--protocol",
                "synthetic-v1",
                "--crop",
                "face",
            ],
            "leave out the crop",
        ),
        (["model=synthetic-128", "data.root=NOWHERE", "method=../x"], "the first no dot"),
        (["--output", "x", "model=synthetic-128"], "for a model output=..."),
        (
            ["--videos", "VIDEOS", "--reference", "REFERENCE", "--method", "m", "--split", "train"],
            "has no split 'train'",
        ),
        ([], "ifmdm evaluate --help"),
        (["--selftest"], "give --reference DIR, a folder of videos"),
        (["--selftest", "--reference", "REFERENCE", "--method", "m"], "leave out --method"),
        (["--selftest", "--videos", "VIDEOS", "--method", "m"], "leave out --videos and --method"),
        (["--selftest", "--reference", "REFERENCE", "--task", "reconstruction"], "leave out --task"),
        (["--selftest", "--reference", "REFERENCE", "--seeds"], "leave out --seeds"),
        (["--selftest", "--reference", "REFERENCE", "--max-frames", "3"], "use 16 or more"),
        (["--selftest", "--reference", "EMPTY"], "holds no reference videos"),
        (["--selftest", "--reference", "NOWHERE"], "no such folder"),
    ],
)
def test_wrong_words_end_in_one_line(words, told, videos, reference, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    places = {
        "VIDEOS": videos,
        "REFERENCE": reference,
        "EMPTY": tmp_path / "empty",
        "NOWHERE": tmp_path / "x",
        "VIDEO": videos / "ben.mp4",
    }
    assert main(["evaluate", *(str(places.get(word, word)) for word in words)]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_the_command_writes_results_or_nothing(videos, reference, tmp_path, monkeypatch, capsys, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(command, "load_judges", lambda *_: stand_ins())
    words = [
        "evaluate",
        "--videos",
        str(videos),
        "--reference",
        str(reference),
        "--method",
        "half",
        "--size",
        "64",
    ]
    assert main([*words, "--output", str(tmp_path / "out"), "--max-frames", "32"]) == 0
    found = read_results(tmp_path / "out/results.json")
    assert found["protocol"]["settings"]["max_frames"] == 32
    assert [text.removeprefix("note: ") for text in caplog.messages if text.startswith("note: ")] == found[
        "notes"
    ]
    told = f"4 of 5 clips judged, 1 without a partner; {len(found['missing'])} entries under missing: "
    assert caplog.messages[-1].startswith(told)

    for own in (["mine.png"], []):
        (tmp_path / "out/gallery").mkdir(exist_ok=True)  # of another evaluation, whose results were here
        for name in (*own, "sheet_a.png", "rows_a.mp4"):
            (tmp_path / "out/gallery" / name).touch()
        assert main([*words, "--output", str(tmp_path / "out"), "--max-frames", "40"]) == 0
        left = sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file())
        assert left == [*own, "results.json"]
        for name in own:
            (tmp_path / "out/gallery" / name).unlink()
    assert not (tmp_path / "out/gallery").exists()

    only = tmp_path / "only"
    only.mkdir()
    shutil.copy(videos / "a2.mp4", only)  # its length is wrong
    words[2] = str(only)
    capsys.readouterr()
    assert main([*words, "--output", str(tmp_path / "none")]) == 2
    assert f"not one clip could be judged (a2: {only}/a2.mp4 has 50 frames" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_an_absent_judge_is_listed_with_the_command(monkeypatch):
    def absent() -> None:
        raise MissingAssetError("net.pth: model file not found; get it by `ifmdm assets fetch net.pth`")

    judges = Judges(watch)
    assert judges.load("fid", "net", absent, lambda judge: "0") is None
    assert judges.missing == [
        ("fid", "net.pth: model file not found; get it by `ifmdm assets fetch net.pth`")
    ]
    assert judges.load("x", "x", lambda: "judge", lambda judge: f"hash of {judge}") == "judge"
    assert judges.hashes == {"x": "hash of judge"}


@pytest.fixture(scope="module")
def samples(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> list[selftest.Sample]:
    reference = with_phones(reference, tmp_path_factory.mktemp("aligned") / "reference")
    settings = protocol_settings("talking-head-v1", size=SIZE, task="reconstruction")
    found, missing = selftest.load_samples(reference_clips(reference), settings, stand_ins())
    assert "no sound track" in str(missing)
    return found


def test_the_selftest_tells_which_measures_answer(samples, tmp_path):
    judges = stand_ins()
    judges.images = SimpleNamespace(network=PictureFields())
    rows = selftest.self_test(samples, judges)
    verdicts = {(row["corruption"], row["measure"]): row["answers"] for row in rows}
    for measure in ("psnr", "mouth_lmd", "mouth_motion", "head_motion"):
        assert verdicts["freeze", measure] is True
    for measure in ("csim", "aed", "psnr"):
        assert verdicts["identity swap", measure] is True
    assert verdicts["sound shift", "av_lag"] is True
    assert verdicts["landmark noise", "jitter"] is True
    assert verdicts["blur", "psnr"] is True
    fid = {row["corruption"]: row["values"] for row in rows if row["measure"] == "fid"}
    assert fid["blur"][0] == pytest.approx(0, abs=1e-3)
    assert (
        fid["blur"][3] > 1 > fid["blur"][1]
    )  # a quarter of the pixels of a picture of 256, a quarter of the blur
    assert fid["sound shift"] == pytest.approx([0] * 4, abs=1e-3)  # it leaves the pictures alone
    assert ("blur", "fvd") not in verdicts
    assert verdicts["blur", "jitter"] is None  # not made for it
    assert verdicts["shaking frame", "akd"] is True
    assert verdicts["slowed", "head_velocity_distance"] is True
    closed = next(row["values"] for row in rows if row["measure"] == "lip_closure")
    assert closed[0] > 0.9 > max(closed[1:]) + 0.1  # phones come late with the sound
    absent = {one["what"]: one["why"] for one in selftest.unasked(rows, judges)}
    assert "fewer than five" in absent["blink_interval_distance"]  # the stand-in never blinks
    assert absent["blink_rate"] == "nobody blinks"
    assert "fvd" in absent
    assert "psnr" not in absent
    text = selftest.markdown(rows, ["a", "b"], [{"clip": "*", "what": "fvd", "why": "absent"}])
    assert "| psnr |" in text
    assert "Do not answer in order:" in text
    assert "- *: fvd: absent" in text
    assert selftest.caution(samples).startswith(f"{len(samples)} clips, the shortest of 60 frames: ")
    long = dataclasses.replace(samples[0], view=samples[0].view.take(np.arange(120) % 60))
    assert selftest.caution([long] * 5) == ""
    assert selftest.caution([long] * 4) != ""
    with pytest.raises(UserError, match="two people"):
        selftest.self_test(samples[:1], stand_ins())


def test_every_measure_with_a_merit_has_a_corruption_that_it_must_answer_to():
    asked = {measure for one in CORRUPTIONS.values() for measure in one.answers}
    merits = {name for name, measure in MEASURES.items() if measure.better != "none"}
    assert merits - asked == {"mouth_lmd_best"}  # of several takes


def test_the_selftest_invents_nothing_for_clips_that_say_nothing(samples):
    """Clips under two seconds have no retrieval, so chance must not stand for it."""
    short = [
        dataclasses.replace(
            one,
            view=one.view.take(np.arange(45)),
            waveform=None if one.waveform is None else one.waveform[: 45 * 640],
        )
        for one in samples
    ]
    judges = stand_ins()
    rows = selftest.self_test(short, judges)
    assert "av_retrieval" not in {row["measure"] for row in rows}
    assert "av_retrieval" in {one["what"] for one in selftest.unasked(rows, judges)}
    assert (
        next(row for row in rows if row["corruption"] == "freeze" and row["measure"] == "av_corr")["values"][
            3
        ]
        == 0
    )


def test_pixels_of_a_corruption_are_those_of_a_picture_of_256(samples):
    view = samples[0].view
    big = assemble(view.frames.repeat(1, 1, 4, 4), view.curves, 4 * view.points, view.embeddings)
    for name in ("landmark noise", "shaking frame"):
        moved = [corrupt(name, 8, one, one, stand_ins()).points - one.points for one in (view, big)]
        assert np.abs(moved[1] - 4 * moved[0]).max() <= (0 if name == "landmark noise" else 4) + 1e-9
        assert moved[1][..., :2].std() == pytest.approx(8, rel=0.25)


def test_answers_must_come_at_every_step():
    assert selftest.answers([1, 2, 3, 4], 1)
    assert selftest.answers([4, 3, 1, 0], -1)
    assert not selftest.answers([1, 2, 2, 4], 1)
    assert not selftest.answers([1, 2, float("nan"), 4], 1)
    assert all(len(one.strengths) == 4 for one in CORRUPTIONS.values())


def test_a_share_of_frames_is_swapped(samples):
    first, second = samples[0].view, dataclasses.replace(samples[3].view)
    mixed = swapped(first, second, 0.25)
    foreign = (mixed.frames != first.frames[: len(mixed)]).flatten(1).any(dim=1)
    assert int(foreign.sum()) == FRAMES // 4
    assert (mixed.curves.lip_opening[foreign.numpy()] == second.curves.lip_opening[foreign.numpy()]).all()
