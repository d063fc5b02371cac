import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.batches import SAMPLES_PER_FRAME
from datamodules.clips.annotations import write_annotations
from datamodules.clips.manifest import SYNTHETIC_SOURCE, ClipRecord, read_manifest, write_manifest
from datamodules.errors import UserError
from datamodules.media.audio import load_audio, write_wav
from datamodules.media.video import read_video, write_video
from experiments import judges
from experiments.cli import main
from experiments.clip_measures import PLAN, load_clip
from experiments.evaluate import choose_clips, compose_evaluation, errors_removed, evaluate_model
from experiments.evaluate_command import check_method
from experiments.evaluate_videos import evaluate_videos
from experiments.judges import load_judge
from experiments.results import plain, read_results, write_results
from experiments.sweep import sweep_intensity
from experiments.video_judges import Judges
from experiments.video_measures import watch_by
from experiments.video_pairs import recorded_clip, resize, split_hashes
from experiments.video_rows import reconstruct
from metrics.judges.frame_regressor import FrameRegressor
from metrics.motion import MotionCurves
from metrics.protocol import protocol_settings

SIZE, FRAMES = 48, 50
SPANS = {"yaw": (0, 12), "pitch": (12, 24), "lips": (24, 48)}


def draw(motion: np.ndarray) -> np.ndarray:
    """Frames ``(T, S, S, 3)`` whose grey bands say the motion ``(T, 3)`` in [-1, 1]: yaw, pitch, lips."""
    frames = np.zeros((len(motion), SIZE, SIZE, 3), np.uint8)
    for column, (start, end) in enumerate(SPANS.values()):
        frames[:, start:end] = np.round(127.5 + 100 * motion[:, column])[:, None, None, None]
    return frames


def read(frames: np.ndarray) -> np.ndarray:
    """The motion that `draw` put into frames."""
    bands = [frames[:, start + 2 : end - 2].mean(axis=(1, 2, 3)) for start, end in SPANS.values()]
    return (np.stack(bands, axis=1) - 127.5) / 100


class BandJudge:
    name, sha256 = "bands", "0" * 64

    def measure(self, frames: np.ndarray) -> MotionCurves:
        seen = read(frames)
        rotation = np.concatenate([20 * seen[:, :2], np.zeros((len(seen), 1))], axis=1)
        return MotionCurves(rotation, seen[:, 2], np.zeros(len(seen)))


@dataclasses.dataclass(frozen=True)
class Options:
    intensity: float = 1.0
    seed: int = 0

    def check(self, model: torch.nn.Module) -> None:
        if self.intensity < 0:
            raise UserError(f"intensity is {self.intensity}")


class FakeModel(torch.nn.Module):
    """A talking head that opens the lips by the loudness of the speech, ``late`` frames too late."""

    size, device = SIZE, "cpu"

    def __init__(self, late: int = 0, broken: str = "") -> None:
        super().__init__()
        self.late, self.broken = late, broken

    def prepare_source(self, image: torch.Tensor) -> torch.Tensor:
        assert image.shape == (3, SIZE, SIZE)
        assert image.min() >= -1
        assert image.max() <= 1
        return image

    def motion_of(self, frames: torch.Tensor) -> torch.Tensor:
        pixels = ((frames + 1) * 127.5).permute(0, 2, 3, 1).numpy()
        return torch.from_numpy(read(pixels)) * 0.9

    def generate_motion(self, source: torch.Tensor, waveform: np.ndarray, options: Options) -> torch.Tensor:
        generator = np.random.default_rng(options.seed)
        lips = np.roll(loudness(waveform), self.late)
        sway = generator.normal(size=(len(lips), 2)).cumsum(axis=0) * 0.03 * options.intensity
        return torch.from_numpy(np.concatenate([sway, lips[:, None]], axis=1).clip(-1, 1))

    def render(self, source: torch.Tensor, motion: torch.Tensor, batch_size: int = 8):
        if self.broken == "render":
            raise RuntimeError("out of memory")
        yield from draw(motion.numpy())


def loudness(waveform: np.ndarray) -> np.ndarray:
    return np.sqrt((waveform.reshape(-1, SAMPLES_PER_FRAME) ** 2).mean(axis=1)) * 2


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "clips").mkdir()
    records = []
    for number in range(4):
        generator = np.random.default_rng(number)
        level = np.convolve(generator.uniform(0, 0.5, FRAMES), np.ones(3) / 3, "same")
        waveform = np.repeat(level, SAMPLES_PER_FRAME) * np.sign(
            generator.normal(size=FRAMES * SAMPLES_PER_FRAME)
        )
        lips = loudness(waveform)
        motion = np.concatenate(
            [generator.normal(size=(FRAMES, 2)).cumsum(axis=0) * 0.03, lips[:, None]], axis=1
        )
        motion = motion.clip(-1, 1)
        name = f"clips/c{number}"
        write_video(folder / f"{name}.mp4", draw(motion), crf=4)
        write_wav(folder / f"{name}.wav", waveform.astype(np.float32))
        regions = np.tile(
            np.array([[0, 0.5, 1, 1], [0, 0, 0.5, 0.25], [0.5, 0, 1, 0.25]], np.float32), (FRAMES, 1, 1)
        )
        write_annotations(
            folder / f"{name}.safetensors", {"lip_opening": lips.astype(np.float32), "regions": regions}, {}
        )
        records.append(
            ClipRecord(f"c{number}", f"{name}.mp4", f"{name}.wav", f"{number}", f"id{number % 2}",
                       f"v{number % 2}", "test", SYNTHETIC_SOURCE, 0.0, FRAMES, SIZE, None, {}, f"{name}.safetensors")
        )  # fmt: skip
    write_manifest(folder, records)
    return folder


def values(results: dict) -> dict[str, float | None]:
    return {name: one["value"] for name, one in results["metrics"].items()}


def test_table_of_a_good_model(root, tmp_path):
    results = evaluate_model(
        FakeModel(),
        root,
        judge=BandJudge(),
        options=Options(),
        seeds=(0, 1),
        gallery=tmp_path,
        gallery_clips=1,
    )
    found = values(results)
    assert found["lip_corr_zero"] > 0.95
    assert found["lip_lag"] == 0
    assert abs(found["lip_corr_zero_swapped"]) < 0.4
    assert found["lip_corr_zero_real"] > 0.95
    assert found["lip_corr_still"] is None  # a still mouth correlates with nothing
    assert found["head_motion_still"] < 0.01 < found["head_motion"]
    assert found["psnr_gain"] == pytest.approx(found["psnr"] - found["psnr_still"], abs=1e-6)
    assert found["psnr_gain"] > 3
    assert found["mouth_error_removed"] > 0.5
    assert found["psnr_codec"] > found["psnr"]
    assert "psnr_generated" not in found  # frame-aligned measures never judge free generation
    assert results["metrics"]["lip_corr"]["n"] == 4
    told = {name for one in results["missing"] if one["clip"] != "*" for name in one["what"].split(", ")}
    # clips of 2 s leave no window at some lags; all else is known of each
    assert all(name.startswith("av_retrieval") for name in told)
    assert len(results["lag_curves"]["generated"]) == 21
    assert (tmp_path / "sheet_c0.png").is_file()
    assert (tmp_path / "rows_c0.mp4").is_file()
    path = write_results(tmp_path / "out" / "results.json", results)
    assert values(read_results(path)) == pytest.approx(found)


def test_both_forms_of_evaluation_say_the_same_of_the_same_clips(root, tmp_path):
    """The model's form and that of the videos that it makes, on two of four clips: the same hash, the same numbers."""

    def judges() -> Judges:
        judge = BandJudge()
        return Judges(watch_by(judge), hashes={judge.name: judge.sha256})

    (tmp_path / "videos").mkdir()
    names = [record.id for record in choose_clips(read_manifest(root), "test", 2)]
    made = {}
    for record in read_manifest(root):
        waveform = load_audio(root / record.audio)
        lips = 0.7 * loudness(waveform)
        frames = draw(np.stack([0 * lips, 0 * lips, lips], axis=1))
        path = tmp_path / "videos" / f"{record.id}.mp4"
        write_video(path, resize(frames, 32, 32), crf=4)
        made[hashlib.sha256(waveform.tobytes()).hexdigest()] = read_video(path)
        if record.id not in names:
            path.unlink()

    class Recorded(FakeModel):
        """Gives out the frames of those videos, for the clips' own speech."""

        size = 32  # another size than that of the clips

        def prepare_source(self, image: torch.Tensor) -> torch.Tensor:
            return image

        def motion_of(self, frames: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(frames), self.size, self.size, 3)

        def generate_motion(self, source: torch.Tensor, waveform: np.ndarray, options: Options) -> np.ndarray:
            return made[hashlib.sha256(waveform.tobytes()).hexdigest()]

        def render(self, source: torch.Tensor, motion: torch.Tensor):
            yield from np.asarray(motion, np.uint8)

    own = evaluate_model(Recorded(), root, judge=BandJudge(), options=Options(), clips=2, judges=judges())
    settings = protocol_settings("synthetic-v1", size=32)
    other = evaluate_videos(tmp_path / "videos", root, "m", settings, "synthetic-v1", judges=judges())
    assert [one["clip"] for one in other["clips"]] == [one["clip"] for one in own["clips"]] == sorted(names)
    assert own["protocol"] == other["protocol"]
    assert set(other["metrics"]) <= set(own["metrics"])
    assert {"av_corr", "av_corr_real", "av_retrieval_codec", "av_corr_zero_shuffled", "av_corr_share", "jitter_real",
            "mouth_motion", "head_motion_still"} <= set(other["metrics"])  # fmt: skip
    for name in other["metrics"]:
        assert own["metrics"][name] == pytest.approx(other["metrics"][name], nan_ok=True), name
    assert "av_corr_zero_swapped" in own["metrics"]  # videos can't be asked


def test_late_lips_have_a_positive_lag(root):
    results = evaluate_model(FakeModel(late=3), root, judge=BandJudge(), options=Options(), clips=2)
    found = values(results)
    assert found["lip_lag"] == 3
    assert found["lip_corr"] > 0.9 > found["lip_corr_zero"]
    assert found["lip_lag_autoencoder"] == 0
    assert len(results["clips"]) == 2
    assert {clip["identity"] for clip in results["clips"]} == {"id0", "id1"}


def test_psnr_leaves_the_source_frame_out(root):
    """A PSNR by hand over each clip's frames 1.., then the mean over clips, equals the reported one."""
    model, judge = FakeModel(), BandJudge()
    results = evaluate_model(model, root, judge=judge, options=Options(), clips=2)
    by_hand = []
    for record in choose_clips(read_manifest(root), "test", 2):
        clip = load_clip(root, record, SIZE, judge)
        made = reconstruct(model, clip.frames)
        error = ((made[1:].astype(float) - clip.frames[1:]) ** 2).mean()
        by_hand.append(10 * np.log10(255**2 / error))
    assert values(results)["psnr"] == pytest.approx(np.mean(by_hand), abs=1e-4)


def test_a_failing_clip_is_listed_and_the_others_are_judged(root, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(root, folder)
    (folder / "clips" / "c0.mp4").write_bytes(b"no video")
    results = evaluate_model(FakeModel(), folder, judge=BandJudge(), options=Options())
    assert [entry["clip"] for entry in results["missing"] if entry["what"] == "all"] == ["c0"]
    assert results["metrics"]["psnr"]["n"] == 3


@pytest.fixture(scope="module")
def damaged(root, tmp_path_factory) -> Path:
    """The dataset with every video damaged."""
    folder = tmp_path_factory.mktemp("damaged") / "data"
    shutil.copytree(root, folder)
    for path in folder.glob("clips/*.mp4"):
        path.write_bytes(b"no video")
    return folder


def test_a_damaged_dataset_is_no_result(damaged, tmp_path):
    nothing = evaluate_model(FakeModel(), damaged, judge=BandJudge(), options=Options())
    assert nothing["clips"] == []
    assert nothing["metrics"] == {}
    assert len([one for one in nothing["missing"] if one["what"] == "all"]) == 4
    with pytest.raises(UserError, match=r"c\d\.mp4"):
        sweep_intensity(FakeModel(), damaged, (0.0, 1.0), BandJudge(), options=Options(), output=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["evaluate", "sweep"])
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["data.root={damaged}"], "not one clip could be judged"),
        (["data.root={root}", "+generation.intensity=-1", "+sweep.values=[-1]"], "intensity"),
        (["data.root={root}", "+generation.intensity=high", "+sweep.values=[high]"], "type"),
        (["data.root={root}", "+generation.nonsense=1"], "nonsense"),
        (["data.root={root}", "generation.mouth_intensity=-1"], "mouth intensity"),
        (["data.root={root}", "seeds=[-1]"], "seed"),
        (["data.root={root}", "seeds=[]"], "seed"),
        (["data.root={root}", "clips=0"], "clips=0"),
        (["data.root={root}", "seeds=3"], "give a list"),
        (["data.root={root}", "seeds=[1,1]"], "no seed twice"),
        (["data.root={root}", "max_frames=abc"], "whole number from 16"),
        (["data.root={root}", "max_frames=0"], "null for all"),
        (["data.root={root}", "output={file}"], "is a file"),
    ],
)
def test_wrong_settings_write_nothing(
    command, words, told, root, damaged, build_model, tmp_path, monkeypatch, capsys
):
    judged = []
    monkeypatch.setattr(
        "experiments.evaluate.load_judge", lambda *args, **more: judged.append(args) or BandJudge()
    )
    monkeypatch.setattr(
        "lightning_modules.generation.talking_head.TalkingHead.from_pretrained", lambda folder: build_model()
    )
    (tmp_path / "file").write_text("something")
    places = {"root": root, "damaged": damaged, "file": tmp_path / "file"}
    words = [word.format(**places) for word in words]
    words = [word for word in words if command == "sweep" or not word.startswith("+sweep")]
    if command == "evaluate":
        words = [word.replace("+generation.intensity", "generation.intensity") for word in words]
    else:
        words = [word.replace("+sweep", "sweep") for word in words if "generation.intensity" not in word]
    if not any(word.startswith("output=") for word in words):
        words.append(f"output={tmp_path / 'new'}")
    assert main([command, *words]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert told in errors[0]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert len(judged) == (
        "damaged" in words[0]
    )  # no judge is fitted before the options are known to be good


def test_a_clip_that_the_model_can_not_do_is_listed_and_pools_nothing(root):
    class Picky(FakeModel):
        def prepare_source(self, image: torch.Tensor) -> torch.Tensor:
            self.asked = getattr(self, "asked", 0) + 1
            if self.asked == 3:  # the second clip: once for each row that starts from the source
                raise ValueError("the source's shoulders are not in view")
            return super().prepare_source(image)

    class Counting:
        def __init__(self) -> None:
            self.rows: list[str] = []

        def update(self, frames: torch.Tensor, row: str, identity: str, take: int) -> None:
            self.rows.append(row)

        def compute(self) -> tuple[dict, list[str]]:
            return {}, []

    judge = BandJudge()
    judges = Judges(watch_by(judge), hashes={judge.name: judge.sha256}, images=Counting())
    results = evaluate_model(Picky(), root, judge=judge, options=Options(), judges=judges)
    assert [(one["clip"], one["why"]) for one in results["missing"] if one["what"] == "all"] == [
        ("c1", "the source's shoulders are not in view")
    ]
    assert results["metrics"]["psnr"]["n"] == 3
    assert len(judges.images.rows) == 3 * 4
    rows = sweep_intensity(Picky(), root, (0.0,), judge, options=Options())
    assert rows[0]["head_motion"]["n"] == 3
    # The others are judged as if nothing had happened: the real clip still helps the fit.
    whole = evaluate_model(FakeModel(), root, judge=judge, options=Options(), judges=judges)
    assert results["protocol"] == whole["protocol"]
    others = [one for one in whole["clips"] if one["clip"] != "c1"]
    assert [{**one, "fps": 0} for one in results["clips"]] == [{**one, "fps": 0} for one in others]


def test_a_bug_in_the_model_keeps_its_traceback(root):
    with pytest.raises(RuntimeError, match="out of memory"):
        evaluate_model(FakeModel(broken="render"), root, judge=BandJudge(), options=Options())
    with pytest.raises(RuntimeError, match="out of memory"):
        sweep_intensity(FakeModel(broken="render"), root, (0.0,), BandJudge(), options=Options())


def test_a_judge_is_kept_for_its_data_and_limits_alone(root, tmp_path, monkeypatch):
    fits, sizes = [], []

    def fit(root, training, device, seconds, steps, **more):
        fits.append((seconds, steps))
        return FrameRegressor()

    monkeypatch.setattr(judges, "fit_frame_regressor", fit)
    monkeypatch.setattr(judges, "held_out_r2", lambda *args, size: sizes.append(size) or {"lip_opening": 0.5})
    folder = tmp_path / "data"
    shutil.copytree(root, folder)
    records = read_manifest(folder)
    write_manifest(folder, [dataclasses.replace(records[0], split="train"), *records[1:]])
    first = load_judge("regressor", folder, seconds=5, size=48)
    assert first.facts["held_out"] == {"split test, 48 px": {"lip_opening": 0.5}}
    assert load_judge("regressor", folder, seconds=5, size=48).sha256 == first.sha256
    assert (fits, sizes) == ([(5, 600)], [48])
    again = load_judge("regressor", folder, seconds=5, size=32)  # only its own error is measured again
    assert set(again.facts["held_out"]) == {"split test, 48 px", "split test, 32 px"}
    assert again.facts["held_out_r2"] == {"lip_opening": 0.5}
    load_judge("regressor", folder, seconds=5, size=48)  # both are known by now
    assert (len(fits), sizes) == (1, [48, 32])
    load_judge("regressor", folder, size=32)
    load_judge("regressor", folder, seconds=90, steps=10, size=32)
    assert fits[1:] == [(None, 600), (90, 10)]
    assert sorted(path.name for path in folder.glob("judge*")) == ["judge", "judge_10steps_90s", "judge_5s"]
    for limits in ({"seconds": 5}, {}, {"seconds": 90, "steps": 10}):  # none has taken another's place
        load_judge("auto", folder, size=32, **limits)
    assert len(fits) == 3
    old = FrameRegressor.load(folder / "judge")
    old.facts["limits"] = {
        "seconds": 90.0,
        "steps": 1500,
    }  # what this folder held before limits had folders of their own
    old.save(folder / "judge")
    load_judge("regressor", folder, size=32)
    assert fits[3:] == [(None, 600)]
    fits.pop()
    write_manifest(folder, [dataclasses.replace(records[0], split="train"), *records[1:3]])
    load_judge("regressor", folder, size=32)
    assert len(fits) == 4  # other data


def test_a_judge_that_can_not_be_kept_still_judges(root, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(judges, "fit_frame_regressor", lambda *args, **more: FrameRegressor())
    monkeypatch.setattr(judges, "held_out_r2", lambda *args, size: {"lip_opening": 0.5})
    folder = tmp_path / "data"
    shutil.copytree(root, folder)
    records = read_manifest(folder)
    write_manifest(folder, [dataclasses.replace(records[0], split="train"), *records[1:]])
    (folder / "judge").write_text("a file where the folder should be")
    assert load_judge("regressor", folder).facts["held_out_r2"] == {"lip_opening": 0.5}
    assert "can't be kept" in caplog.text


def test_recorded_clips_are_judged_by_landmarks(root, tmp_path, shared, monkeypatch):
    """`ifmdm prepare folder` annotates them too, by what it measures: that makes no synthetic heads of them."""
    monkeypatch.setenv("IFMDM_ASSETS", str(shared / "models"))
    folder = tmp_path / "data"
    shutil.copytree(root, folder)
    write_manifest(folder, [dataclasses.replace(one, source="talk.mp4") for one in read_manifest(folder)])
    assert load_judge("auto", folder).name == "face-landmarker"


def test_protocol_hash_answers_to_what_matters(damaged):
    def protocol(**changes) -> str:
        arguments = {"judge": BandJudge(), "options": Options(), "clips": 2, **changes}
        return evaluate_model(FakeModel(), damaged, **arguments)["protocol"]["hash"]

    other_judge = BandJudge()
    other_judge.sha256 = "1" * 64
    assert protocol() == protocol(
        options=Options(intensity=2)
    )  # a setting of the method, not of the protocol
    assert protocol() == protocol(seeds=(0, 1))
    hashes = {
        protocol(),
        protocol(clips=1),
        protocol(judge=other_judge),
        protocol(max_frames=20),
    }
    assert len(hashes) == 4


def test_the_truth_of_drawn_clips_is_part_of_the_hash(root, tmp_path):
    """Also where phones lie beside the clip: lips and regions are still those of its annotations."""
    folder = tmp_path / "data"
    shutil.copytree(root, folder)
    record = read_manifest(folder)[0]
    (folder / record.video).with_suffix(".phones.csv").write_text("start,end,phone\n0,1,m")
    clip = recorded_clip(folder, record)
    before = split_hashes([clip], [])
    (folder / record.annotations).write_bytes(b"another truth")
    assert split_hashes([clip], []) != before


def test_intensity_sweep_measures_rendered_frames(root, tmp_path):
    rows = sweep_intensity(
        FakeModel(), root, (0.0, 0.5, 1.0), BandJudge(), clips=2, options=Options(), output=tmp_path
    )
    motion = [row["head_motion"]["value"] for row in rows]
    assert motion[0] < 0.05
    assert motion[0] < motion[1] < motion[2]
    assert all(row["lip_corr_zero"]["value"] > 0.95 for row in rows)
    written = json.loads((tmp_path / "sweep.json").read_text())
    assert written["rows"] == rows
    assert (tmp_path / "sweep.png").is_file()
    whole = values(
        evaluate_model(FakeModel(), root, judge=BandJudge(), clips=2, options=Options(intensity=0.5))
    )
    for name in (
        "head_motion",
        "mouth_motion",
        "blink_rate",
        "jitter",
        "lip_corr",
        "lip_corr_zero",
        "lip_lag",
    ):
        assert rows[1][name]["value"] == pytest.approx(whole[name], abs=1e-9), name


def test_empty_split_and_wrong_files_are_told(root, tmp_path):
    with pytest.raises(UserError, match="split 'val'"):
        evaluate_model(FakeModel(), root, split="val", judge=BandJudge(), options=Options())
    broken = tmp_path / "results.json"
    broken.write_text("{}")
    with pytest.raises(UserError, match="lacks protocol"):
        read_results(broken)
    broken.write_text("{")
    with pytest.raises(UserError, match="JSON"):
        read_results(broken)
    assert list(tmp_path.iterdir()) == [broken]


def test_small_helpers():
    assert check_method(2024) == "2024"  # as YAML reads it
    with pytest.raises(UserError, match="use 1 to 100 letters"):
        check_method(True)
    assert PLAN.name("psnr", "autoencoder") == "psnr"
    assert PLAN.name("psnr", "codec") == "psnr_codec"
    assert PLAN.name("lip_corr", "generated") == "lip_corr"
    assert PLAN.name("lip_corr", "swapped") == "lip_corr_swapped"
    assert plain({"a": float("nan"), "b": (1, np.float32(2)), "c": Path("x")}) == {
        "a": None,
        "b": [1, 2.0],
        "c": "x",
    }
    assert errors_removed([]) == {}


def test_words_of_the_command_line_reach_the_config():
    config = compose_evaluation(
        ["model=/some/model", "data.root=/some/data", "clips=3", "seeds=[4]"], "evaluate"
    )
    assert (config["talking_head"], config["data"]["root"]) == ("/some/model", "/some/data")
    assert (config["clips"], config["seeds"]) == (3, [4])
    sweep = compose_evaluation(
        ["sweep=motion_intensity", "sweep.values=[0,3]", "experiment=autoencoder_tiny", "model=/some/model"],
        "sweep",
    )
    assert sweep["sweep"]["values"] == [0, 3]
    assert sweep["data"]["root"]
    with pytest.raises(UserError, match="no dataset"):
        compose_evaluation([], "evaluate")
    with pytest.raises(
        UserError, match="give model=DIR"
    ):  # not the shipped model under the experiment's name
        compose_evaluation(["experiment=autoencoder_tiny"], "evaluate")
    with pytest.raises(UserError, match="clipps"):
        compose_evaluation(["clipps=3"], "evaluate")
