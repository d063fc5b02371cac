"""``ifmdm evaluate`` and ``ifmdm sweep``: a model's rows, its videos in the other form, words, flags and files."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from datamodules.batches import SAMPLES_PER_FRAME
from datamodules.clips.annotations import read_annotations, write_annotations
from datamodules.clips.manifest import SYNTHETIC_SOURCE, ClipRecord, read_manifest, write_manifest
from datamodules.errors import UserError
from datamodules.media.audio import load_audio, write_wav
from datamodules.media.video import read_video, write_video
from experiments import autoencoder_evaluation
from experiments.cli import main
from experiments.evaluate import check_method, evaluate_main, evaluate_model, evaluate_videos, write_videos
from experiments.evaluation_setup import choose_clips, compose_evaluation, rendered_side, set_up
from experiments.model_clips import reconstruct, through_autoencoder
from experiments.results import plain, read_results, write_results
from experiments.sweep.command import run_sweep, sweep_main
from experiments.sweep.plan import read_plan
from lightning_modules.generation.talking_head import TalkingHead
from metrics.evaluation.clips import recorded_clip
from metrics.evaluation.judges import motion_judges
from metrics.evaluation.loading import load_clip, resize
from metrics.evaluation.protocol import get_protocol
from metrics.motion import MotionCurves

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

    size, sizes, usual_size, device = SIZE, (SIZE,), SIZE, "cpu"

    def __init__(self, late: int = 0, broken: str = "") -> None:
        super().__init__()
        self.late, self.broken = late, broken
        self.drawn: list[dict[str, bool]] = []

    def prepare_source(self, image: torch.Tensor, size: int | None = None, **drawn: bool) -> torch.Tensor:
        self.drawn.append(drawn)
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


class PickyModel(FakeModel):
    """Refuses a source; a clip asks twice, for generation and for its autoencoder."""

    def __init__(self, refused: int, error: Exception | None = None) -> None:
        super().__init__()
        self.asked, self.error = -refused, error or ValueError("the source's shoulders are not in view")

    def prepare_source(self, image: torch.Tensor, size: int | None = None, **_: bool) -> torch.Tensor:
        self.asked += 1
        if not self.asked:
            raise self.error
        return super().prepare_source(image)


class Counting(FakeModel):
    """Counts the takes that it renders."""

    rendered = 0

    def render(self, source: torch.Tensor, motion: torch.Tensor, batch_size: int = 8):
        self.rendered += 1
        yield from super().render(source, motion, batch_size)


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
        noise = np.sign(generator.normal(size=FRAMES * SAMPLES_PER_FRAME))
        waveform = np.repeat(level, SAMPLES_PER_FRAME) * noise
        lips = loudness(waveform)
        sway = generator.normal(size=(FRAMES, 2)).cumsum(axis=0) * 0.03
        name = f"clips/c{number}"
        write_video(folder / f"{name}.mp4", draw(np.column_stack([sway, lips]).clip(-1, 1)), crf=4)
        write_wav(folder / f"{name}.wav", waveform.astype(np.float32))
        boxes = np.array([[0, 0.5, 1, 1], [0, 0, 0.5, 0.25], [0.5, 0, 1, 0.25]], np.float32)
        known = {"lip_opening": lips.astype(np.float32), "regions": np.tile(boxes, (FRAMES, 1, 1))}
        write_annotations(folder / f"{name}.safetensors", known, {})
        who = (f"{number}", f"id{number % 2}", f"v{number % 2}", "test", SYNTHETIC_SOURCE, 0.0)
        files = [f"{name}.{kind}" for kind in ("mp4", "wav", "safetensors")]
        records.append(ClipRecord(f"c{number}", *files[:2], *who, FRAMES, SIZE, None, {}, files[2]))
    write_manifest(folder, records)
    return folder


def asked(model, root, judge=None, **options):
    return set_up(
        model, root, lambda *args, **more: judge or BandJudge(), **{"options": Options(), **options}
    )


def run(model, root, judge=None, gallery=None, **options):
    judges = motion_judges(judge or BandJudge())
    return evaluate_model(
        asked(model, root, judge, **options), judges=judges, gallery=gallery, gallery_clips=1
    )


def sweep(model, root, intensities, output, **options):
    plan = read_plan({"axis": "intensity", "values": list(intensities), "reference": 1.0}, Options())
    evaluated = asked(model, root, **options)
    return run_sweep(evaluated, plan, output, judges=motion_judges(evaluated.judge))["rows"]


def values(results: dict) -> dict[str, float | None]:
    return {name: one["value"] for name, one in results["metrics"].items()}


def test_table_of_a_good_model(root, tmp_path):
    results = run(FakeModel(), root, seeds=(0, 1), gallery=tmp_path)
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
    assert {path.name for path in tmp_path.iterdir()} == {"sheet_c0.png", "rows_c0.mp4"}
    path = write_results(tmp_path / "out" / "results.json", results)
    assert values(read_results(path)) == pytest.approx(found)


class Recorded(FakeModel):
    """Gives out the frames of videos, for the clips' own speech, at another size than that of the clips."""

    size, sizes, usual_size = 32, (32,), 32

    def __init__(self, made: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.made = made

    def prepare_source(self, image: torch.Tensor, size: int | None = None, **_: bool) -> torch.Tensor:
        return image

    def motion_of(self, frames: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(frames), self.size, self.size, 3)

    def generate_motion(self, source: torch.Tensor, waveform: np.ndarray, options: Options) -> np.ndarray:
        return self.made[hashlib.sha256(waveform.tobytes()).hexdigest()]

    def render(self, source: torch.Tensor, motion: torch.Tensor):
        yield from np.asarray(motion, np.uint8)


def test_both_forms_of_evaluation_say_the_same_of_the_same_clips(root, tmp_path):
    """The model's form and that of the videos that it makes, on two of four clips: the same hashes, the same numbers."""
    (tmp_path / "videos").mkdir()
    chosen = [record.id for record in choose_clips(read_manifest(root), "test", 2)]
    made = {}
    for record in read_manifest(root):
        waveform = load_audio(root / record.audio)
        lips = 0.7 * loudness(waveform)
        path = tmp_path / "videos" / f"{record.id}.mp4"
        write_video(path, resize(draw(np.stack([0 * lips, 0 * lips, lips], axis=1)), 32, 32), crf=4)
        made[hashlib.sha256(waveform.tobytes()).hexdigest()] = read_video(path)
        if record.id not in chosen:
            path.unlink()
    own = run(Recorded(made), root, clips=2)
    protocol = get_protocol("synthetic-v2", size=32)
    other = evaluate_videos(tmp_path / "videos", root, "m", protocol, judges=motion_judges(BandJudge()))
    assert [one["clip"] for one in other["clips"]] == [one["clip"] for one in own["clips"]] == sorted(chosen)
    for key in ("name", "hash", "data", "files", "settings"):
        assert own["protocol"][key] == other["protocol"][key]
    assert other["protocol"]["measures"].items() <= own["protocol"]["measures"].items()
    assert {"psnr", "lip_corr"} <= set(own["protocol"]["measures"]) - set(other["protocol"]["measures"])
    names = "av_corr av_retrieval_codec av_corr_zero_shuffled av_corr_share jitter_real head_motion_still sharpness"
    assert set(names.split()) <= set(other["metrics"]) <= set(own["metrics"])
    for name in other["metrics"]:
        assert own["metrics"][name] == pytest.approx(other["metrics"][name], nan_ok=True), name
    assert "av_corr_zero_swapped" in own["metrics"]  # videos can't be asked
    assert set(own) - set(other) == {"lag_curves"}  # one form of result


class TwoSizes(FakeModel):
    """Renders frames as large as its source: of its own side, or of twice as much."""

    sizes, usual_size = (SIZE, 2 * SIZE), 2 * SIZE

    def prepare_source(self, image: torch.Tensor, size: int | None = None, **_: bool) -> torch.Tensor:
        assert image.shape == (3, size, size)
        return image

    def motion_of(self, frames: torch.Tensor) -> torch.Tensor:
        return super().motion_of(torch.nn.functional.interpolate(frames, (SIZE, SIZE), mode="area"))

    def render(self, source: torch.Tensor, motion: torch.Tensor, batch_size: int = 8):
        yield from resize(draw(motion.numpy()), *source.shape[1:])


class SizeJudge(BandJudge):
    """Notes the sides of the frames that it sees."""

    def __init__(self) -> None:
        self.sides: set[int] = set()

    def measure(self, frames: np.ndarray) -> MotionCurves:
        self.sides.add(frames.shape[1])
        return super().measure(resize(frames, SIZE, SIZE))


def test_a_model_of_several_sizes_is_judged_where_its_videos_are(root, tmp_path, refused):
    known = {}
    for side in (SIZE, 2 * SIZE):
        judge = SizeJudge()
        found = known[side] = run(TwoSizes(), root, judge, clips=2, compared_at=side)
        assert judge.sides == {side}
        assert found["run"]["model"]["size"] == SIZE
        assert found["run"]["model"]["compared_at"] == side
        assert values(found)["lip_corr_zero"] > 0.95
    usual = asked(TwoSizes(), root, clips=2)  # the clips are no larger than the model's own size
    assert (usual.size, usual.protocol) == (SIZE, asked(TwoSizes(), root, clips=2, compared_at=SIZE).protocol)
    data = {side: one["protocol"]["data"] for side, one in known.items()}
    assert data[SIZE] != data[2 * SIZE]  # no board ranks one size with another
    (tmp_path / "videos").mkdir()
    for clip in known[SIZE]["clips"]:
        frames = resize(read_video(root / f"clips/{clip['clip']}.mp4"), 2 * SIZE, 2 * SIZE)
        write_video(tmp_path / "videos" / f"{clip['clip']}.mp4", frames, crf=4)
    for side in (SIZE, 2 * SIZE):
        size = None if side == SIZE else side  # drawn clips are judged at their own
        protocol, judges = get_protocol("synthetic-v2", size=size), motion_judges(SizeJudge())
        other = evaluate_videos(tmp_path / "videos", root, "m", protocol, judges=judges)
        for key in ("hash", "data"):
            assert other["protocol"][key] == known[side]["protocol"][key]
    for wrong in (SIZE + 1, 4 * SIZE, float(SIZE), True, "big"):
        with pytest.raises(
            UserError, match=f"compared_at={wrong}: this model renders frames of 48, 96 pixels"
        ):
            asked(TwoSizes(), root, compared_at=wrong)
    where = ["model=synthetic-128", f"data.root={root}", "compared_at=64"]
    for command in ("evaluate", "sweep"):
        refused([command, *where], "compared_at=64: this model renders frames of 128 pixels")


def test_a_model_is_judged_as_large_as_clips_and_its_videos_allow():
    model = TalkingHead.from_pretrained("synthetic-256")

    def side(*sizes: int) -> int:
        return rendered_side(model, None, [SimpleNamespace(size=one) for one in sizes])

    assert [side(one) for one in (64, 128, 192, 256, 512)] == [128, 128, 128, 256, 256]
    assert side(512, 128) == 128  # clips of several sizes: as the smallest


def test_a_sweep_renders_at_the_size_that_is_asked_for(root, tmp_path):
    judge = SizeJudge()
    sweep(TwoSizes(), root, (1.0,), tmp_path, judge=judge, clips=1, compared_at=2 * SIZE)
    assert judge.sides == {2 * SIZE}
    told = json.loads((tmp_path / "sweep.json").read_text())
    assert told["run"]["model"]["compared_at"] == 2 * SIZE
    assert told["protocol"]["settings"]["reading"]["size"] == 2 * SIZE


def test_late_lips_have_a_positive_lag(root):
    results = run(FakeModel(late=3), root, clips=2)
    found = values(results)
    assert found["lip_lag"] == 3
    assert found["lip_corr"] > 0.9 > found["lip_corr_zero"]
    assert found["lip_lag_autoencoder"] == 0
    assert len(results["clips"]) == 2
    assert {clip["identity"] for clip in results["clips"]} == {"id0", "id1"}


def test_psnr_leaves_the_source_frame_out(root):
    """A PSNR by hand over each clip's frames 1.., then the mean over clips, equals the reported one."""
    model, by_hand = FakeModel(), []
    results = run(model, root, clips=2)
    for record in choose_clips(read_manifest(root), "test", 2):
        clip = load_clip(recorded_clip(root, record), get_protocol("synthetic-v2").reading)
        error = ((reconstruct(model, clip.real)[1:].astype(float) - clip.real[1:]) ** 2).mean()
        by_hand.append(10 * np.log10(255**2 / error))
    assert values(results)["psnr"] == pytest.approx(np.mean(by_hand), abs=1e-4)


def test_lids_and_lips_are_drawn_where_a_portrait_speaks_and_not_where_its_autoencoder_is_judged(root):
    model = FakeModel()
    run(model, root, clips=1)
    assert model.drawn == [{"lids": True, "shut_lips": True}, {}]


@pytest.fixture(scope="module")
def damaged(root, tmp_path_factory) -> Path:
    """The dataset with every video damaged."""
    folder = tmp_path_factory.mktemp("damaged") / "data"
    shutil.copytree(root, folder)
    for path in folder.glob("clips/*.mp4"):
        path.write_bytes(b"no video")
    return folder


def test_failing_clips_are_listed_and_the_others_are_judged(root, tmp_path):
    shutil.copytree(root, tmp_path / "data")
    clips = tmp_path / "data/clips"
    (clips / "c0.mp4").write_bytes(b"no video")
    write_wav(clips / "c1.wav", np.zeros(640, np.float32))
    write_annotations(clips / "c2.safetensors", {"lip_opening": np.zeros(9, np.float32)}, {})
    results = run(FakeModel(), tmp_path / "data")
    assert [one["clip"] for one in results["missing"] if one["what"] == "all"] == ["c0", "c1", "c2"]
    assert results["metrics"]["psnr"]["n"] == 1


def test_a_damaged_dataset_is_no_result(damaged, tmp_path):
    nothing = run(FakeModel(), damaged)
    assert (nothing["clips"], nothing["metrics"]) == ([], {})
    assert len([one for one in nothing["missing"] if one["what"] == "all"]) == 4
    with pytest.raises(UserError, match=r"c\d\.mp4"):
        sweep(FakeModel(), damaged, (0.0, 1.0), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [evaluate_main, sweep_main])
@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("data.root={damaged}", "not one clip could be judged"),
        ("generation.intensity=-1 sweep.values=[-1]", "intensity"),
        ("generation.intensity=high sweep.values=[high]", "type"),
        ("+generation.nonsense=1", "nonsense"),
        ("generation.mouth_intensity=-1", "mouth intensity"),
        ("seeds=[-1]", "seed"),
        ("seeds=[]", "seed"),
        ("clips=0", "clips=0"),
        ("seeds=3", "give a list"),
        ("seeds=[1,1]", "no seed twice"),
        ("max_frames=abc", "whole number from 16"),
        ("max_frames=0", "null for all"),
        ("output={file}", "is a file"),
    ],
)
def test_wrong_settings_write_nothing(command, words, told, root, damaged, build_model, tmp_path):
    judged = []

    def load_judge(*args, **more):
        judged.append(args)
        return BandJudge()

    (tmp_path / "file").write_text("something")
    other = "sweep" if command is evaluate_main else "generation.intensity"
    given = words.format(damaged=damaged, file=tmp_path / "file").split()
    usual = [f"data.root={root}", f"output={tmp_path / 'new'}"]
    usual = [word for word in usual if word.partition("=")[0] not in words]
    overrides = [*usual, *(word for word in given if not word.startswith(other))]
    with pytest.raises(UserError) as raised:
        command(overrides, load_model=lambda *names: build_model(), load_judge=load_judge)
    assert told in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    # no judge is fitted before the options are known to be good
    assert len(judged) == ("damaged" in str(overrides))


def test_a_clip_that_the_model_can_not_do_is_listed_and_the_others_are_as_they_were(root, tmp_path):
    results, whole = run(PickyModel(3), root), run(FakeModel(), root)
    assert [(one["clip"], one["why"]) for one in results["missing"] if one["what"] == "all"] == [
        ("c1", "the source's shoulders are not in view")
    ]
    assert results["metrics"]["psnr"]["n"] == 3
    # The others are judged as if nothing had happened: the real clip still helps the fit.
    assert results["protocol"] == whole["protocol"]
    others = [one for one in whole["clips"] if one["clip"] != "c1"]
    assert [{**one, "fps": 0} for one in results["clips"]] == [{**one, "fps": 0} for one in others]
    swept = sweep(PickyModel(2, MemoryError()), root, (0.0,), tmp_path)  # asks once
    assert swept[0]["head_motion"]["n"] == 3


def test_a_bug_in_the_model_keeps_its_traceback(root, tmp_path):
    with pytest.raises(RuntimeError, match="out of memory"):
        run(FakeModel(broken="render"), root)
    with pytest.raises(RuntimeError, match="out of memory"):
        sweep(FakeModel(broken="render"), root, (0.0,), tmp_path)


def test_protocol_hash_answers_to_what_matters(damaged):
    def protocol(**changes) -> str:
        return run(FakeModel(), damaged, **{"clips": 2, **changes})["protocol"]["hash"]

    other = BandJudge()
    other.sha256 = "1" * 64
    assert protocol() == protocol(options=Options(intensity=2))  # a setting of the method alone
    assert protocol() == protocol(seeds=(0, 1))
    hashes = {protocol(), protocol(clips=1), protocol(judge=other), protocol(max_frames=20)}
    assert len(hashes) == 4


def test_a_sweep_measures_as_an_evaluation_does_and_renders_nothing_twice(root, tmp_path):
    rows = sweep(FakeModel(), root, (0.0, 0.5, 1.0), tmp_path, clips=2, seeds=(0, 1))
    motion = [row["head_motion"]["value"] for row in rows]
    assert motion[0] < 0.05
    assert motion[0] < motion[1] < motion[2]
    assert all(row["lip_corr_zero"]["value"] > 0.95 for row in rows)
    written = json.loads((tmp_path / "sweep.json").read_text())
    assert written["rows"] == rows
    assert [(row["series"], row["value"]) for row in rows] == [("intensity", value) for value in (0, 0.5, 1)]
    assert written["protocol"]["name"] == "synthetic-v2"
    whole = run(FakeModel(), root, clips=2, seeds=(0, 1), options=Options(intensity=0.5))
    swept = set(rows[1]) - {"series", "value"}
    assert swept >= {
        "head_motion",
        "jitter",
        "lip_corr_zero",
        "av_corr",
        "av_corr_zero",
        "sharpness",
        "head_velocity_distance",
    }
    for name in swept:  # one definition of each
        assert rows[1][name] == pytest.approx(whole["metrics"][name], abs=1e-9, nan_ok=True), name
    assert written["real"]["head_motion"]["value"] == pytest.approx(
        whole["metrics"]["head_motion_real"]["value"]
    )
    # As after a kill: one record is gone, one is cut off; nothing else is rendered again, and the table is the same.
    records = sorted((tmp_path / "clips").rglob("*.npz"))
    assert len(records) == 6
    records[0].unlink()
    records[3].write_bytes(records[3].read_bytes()[:100])
    counting = Counting()
    assert sweep(counting, root, (0.0, 0.5, 1.0), tmp_path, clips=2, seeds=(0, 1)) == rows
    assert counting.rendered == 2 * 2
    # Another value is rendered for itself.
    more = sweep(counting, root, (0.0, 0.25, 0.5, 1.0), tmp_path, clips=2, seeds=(0, 1))
    assert counting.rendered == 4 * 2
    assert [row for row in more if row["value"] != 0.25] == rows


def test_empty_split_and_wrong_files_are_told(root, tmp_path):
    with pytest.raises(UserError, match="split 'val'"):
        run(FakeModel(), root, split="val")
    broken = tmp_path / "results.json"
    for content, told in (("{}", "lacks protocol"), ("[]", "no JSON object"), ("{", "no valid JSON")):
        broken.write_text(content)
        with pytest.raises(UserError, match=told):
            read_results(broken)


def test_small_helpers():
    assert check_method(2024) == "2024"  # as YAML reads it
    with pytest.raises(UserError, match="use 1 to 100 letters"):
        check_method(True)
    mixed = {"a": float("nan"), "b": (1, np.float32(2)), "c": Path("x")}
    assert plain(mixed) == {"a": None, "b": [1, 2.0], "c": "x"}
    with pytest.raises(ValueError, match="use --crop face"):
        through_autoencoder(FakeModel(), np.zeros((2, 64, 48, 3), np.uint8))
    made = through_autoencoder(FakeModel(), resize(draw(np.zeros((2, 3))), 96, 96))
    assert made.shape == (2, 96, 96, 3)  # the model's own size does not matter


def test_words_of_the_command_line_reach_the_config():
    words = ["model=/some/model", "data.root=/some/data", "clips=3", "seeds=[4]"]
    config = compose_evaluation(words, "evaluate")
    assert (config["talking_head"], config["data"]["root"]) == ("/some/model", "/some/data")
    assert (config["clips"], config["seeds"]) == (3, [4])
    words = "sweep=motion_intensity sweep.values=[0,3] experiment=autoencoder_tiny model=/some/model"
    sweep = compose_evaluation(words.split(), "sweep")
    assert sweep["sweep"]["values"] == [0, 3]
    assert sweep["data"]["root"]
    wrong = {
        "": "no dataset",
        "experiment=autoencoder_tiny": "give model=DIR",  # not the shipped model under the experiment's name
        "clipps=3": "clipps",
    }
    for words, told in wrong.items():
        with pytest.raises(UserError, match=told):
            compose_evaluation(words.split(), "evaluate")


@pytest.fixture
def places(root, tmp_path, monkeypatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    for name in ("videos", "reference", "empty"):
        (tmp_path / name).mkdir()
    for name in ("videos", "reference"):
        shutil.copy(root / "clips/c0.mp4", tmp_path / name / "ben.mp4")
    found = {name.upper(): str(tmp_path / name) for name in ("videos", "reference", "empty", "nowhere")}
    return {**found, "VIDEO": str(tmp_path / "videos/ben.mp4")}


FORM = "--videos VIDEOS --reference REFERENCE --method m"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--videos VIDEOS --method m", "give --reference too"),
        ("--videos EMPTY --reference REFERENCE --method m", "holds no videos"),
        ("--videos VIDEOS --reference EMPTY --method m", "holds no reference videos"),
        ("--videos VIDEO --reference REFERENCE --method m", "is a file, expected a folder"),
        ("--videos VIDEOS --reference NOWHERE --method m", "no such folder of real clips"),
        (f"{FORM} --protocol x", "no such protocol"),
        (f"{FORM} --max-frames 3", "use 16 or more"),
        (f"{FORM} --size 100000", "use 4096 or less"),
        (f"{FORM} clips=3", "one form only"),
        ("--max-frames 20 model=synthetic-128", "--max-frames judges videos"),
        ("--output x model=synthetic-128", "for a model output=..."),
        ("--videos VIDEOS --reference REFERENCE --method ../..", "the first no dot"),
        ("--videos VIDEOS --reference REFERENCE --method a/b", "a name without /"),
        ("--videos VIDEOS --reference REFERENCE --method=", "use 1 to 100 letters"),
        (f"--videos VIDEOS --reference REFERENCE --method {'x' * 300}", "use 1 to 100 letters"),
        (f"{FORM} --output {'x' * 300}", "the name is too long"),
        (f"{FORM} --judge REFERENCE", "give --protocol synthetic-v2"),
        (f"{FORM} --protocol synthetic-v2 --judge REFERENCE", "holds no fitted judge"),
        (f"{FORM} --protocol synthetic-v2", "leave it out for real videos"),
        (f"{FORM} --protocol synthetic-v2 --crop face", "leave out the crop"),
        (f"{FORM} --split train", "has no split 'train'"),
        ("--task both", "invalid choice: 'both'"),
        ("model=synthetic-128 data.root=NOWHERE", "no such folder of prepared clips"),
        ("model=synthetic-128 data.root=NOWHERE method=../x", "the first no dot"),
        ("", "ifmdm evaluate --help"),
        ("--selftest", "give --reference DIR, a folder of videos"),
        ("--selftest --reference REFERENCE --method m", "leave out --method"),
        ("--selftest --videos VIDEOS --method m", "leave out --videos and --method"),
        ("--selftest --reference REFERENCE --max-frames 3", "use 16 or more"),
        ("--selftest --reference EMPTY", "holds no reference videos"),
    ],
)
def test_wrong_words_end_in_one_line(words, told, places, tmp_path, capsys):
    given = []
    for word in words.split():
        key, sign, value = word.partition("=")
        given.append(f"{key}{sign}{places.get(value, value)}" if sign else places.get(word, word))
    assert main(["evaluate", *given]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "reference", "videos"]


def judged(videos: Path, root: Path, **options) -> dict:
    protocol = get_protocol("synthetic-v2", **options)
    return evaluate_videos(videos, root, "half", protocol, judges=motion_judges(BandJudge()))


def test_videos_are_written_with_their_results_or_not_at_all(root, tmp_path, caplog):
    caplog.set_level("INFO")
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    shutil.copy(root / "clips/c0.mp4", videos)
    shutil.copy(root / "clips/c0.mp4", videos / "stranger.mp4")
    found = judged(videos, root, max_frames=32)
    write_videos(found, out, str(videos))
    written = read_results(out / "results.json")
    assert written["protocol"]["settings"]["reading"]["max_frames"] == 32
    assert (written["run"]["takes"], written["run"]["identities"], written["run"]["split"]) == (1, 1, "test")
    assert written["run"]["judge"]["name"] == "bands"
    assert written["run"]["judges"] == {"bands": "0" * 64}
    assert "row autoencoder: no model was named" in str(written["missing"]).replace("', 'why': '", ": ")
    notes = [text.removeprefix("note: ") for text in caplog.messages if text.startswith("note: ")]
    assert notes == written["notes"]
    alone = "1 of 1 clips judged, 4 without a partner; "
    assert caplog.messages[-1].startswith(f"{alone}{len(written['missing'])} entries under missing: ")
    gallery = out / "gallery"
    for own in (["mine.png"], []):
        gallery.mkdir(exist_ok=True)  # of another evaluation, whose results were here
        for name in (*own, "sheet_a.png", "rows_a.mp4"):
            (gallery / name).touch()
        write_videos(found, out, str(videos))
        assert [path.name for path in gallery.glob("*")] == own
        (gallery / "mine.png").unlink(missing_ok=True)
    assert not gallery.exists()
    write_video(videos / "c0.mp4", draw(np.zeros((20, 3))))  # its length is wrong
    with pytest.raises(UserError, match=r"not one clip could be judged \(c0: .*c0.mp4 has 20 frames"):
        write_videos(judged(videos, root), tmp_path / "none", str(videos))
    assert not (tmp_path / "none").exists()


def test_videos_with_a_models_autoencoder(root, tmp_path):
    """Real motion comes back; where the model sees no face, its row is missing and the clip is judged all the same."""
    for name in ("c0", "c1"):
        shutil.copy(root / f"clips/{name}.mp4", tmp_path)
    protocol, judges = get_protocol("synthetic-v2", "reconstruction"), motion_judges(BandJudge())
    found = evaluate_videos(tmp_path, root, "m", protocol, judges=judges, model=PickyModel(2))
    value = values(found)
    assert value["psnr_autoencoder"] < value["psnr_codec"]
    assert value["head_motion_autoencoder"] == pytest.approx(0.9 * value["head_motion_real"], rel=0.2)
    assert {one["clip"]: "psnr_autoencoder" in one for one in found["clips"]} == {"c0": True, "c1": False}
    (absent,) = [one for one in found["missing"] if one["what"] == "row autoencoder"]
    assert (absent["clip"], absent["why"]) == ("c1", "the source's shoulders are not in view")
    assert found["run"]["autoencoder"] is not None


def test_frames_without_any_value_are_no_result(tmp_path):
    nothing = {"value": None, "low": None, "high": None, "n": 0}
    found = {"metrics": {"csim": nothing, "csim_real": {**nothing, "value": 1.0}}, "clips": [{"clip": "ben"}]}
    found["missing"] = [{"clip": "ben", "what": "generated: 60 of 60 frames", "why": "no face found"}]
    with pytest.raises(UserError, match=r"not one clip .* \(ben: generated: 60 of 60 frames: no face"):
        write_videos(found, tmp_path / "out", "v")
    assert not (tmp_path / "out").exists()


def test_results_have_a_place_before_the_work_begins(places, tmp_path, capsys, caplog):
    words = ["evaluate", "--videos", places["VIDEOS"], "--reference", places["REFERENCE"], "--method", "m"]
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


def test_an_unreadable_folder_is_one_line(places, monkeypatch, capsys):
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refuse)
    words = ["--videos", places["VIDEOS"], "--reference", places["REFERENCE"], "--method", "m"]
    assert main(["evaluate", *words]) == 2
    assert capsys.readouterr().err.endswith("may not be read or written; check its permissions\n")


def test_an_autoencoder_alone_is_judged_by_the_yaw_from_the_source_too(root, tmp_path, monkeypatch, refused):
    data = Path(shutil.copytree(root, tmp_path / "data"))
    rotation = np.zeros((FRAMES, 3), np.float32)
    rotation[:, 0] = 100 + np.linspace(0, 20, FRAMES)  # yaw; the others rest
    for path in (data / "clips").glob("*.safetensors"):
        write_annotations(path, {**read_annotations(path).arrays, "rotation": rotation}, {})
    monkeypatch.setattr(autoencoder_evaluation, "load_autoencoder", lambda source: (None, {}))
    monkeypatch.setattr(autoencoder_evaluation, "Reenactor", lambda network: FakeModel())
    monkeypatch.setattr(autoencoder_evaluation, "weights_hash", lambda model: "0")
    config = compose_evaluation(["autoencoder=run", f"data.root={data}", "clips=2"], "evaluate")
    judge = BandJudge()
    parts = {"load_judge": lambda *args, **more: judge, "judges": motion_judges(judge)}
    found = autoencoder_evaluation.evaluate_autoencoder(config, "alone", **parts)
    away = rotation[1:, 0] - 100
    counts = [
        2 * int(((away >= low) & (away < high)).sum()) for low, high in ((0, 3), (3, 10), (10, 15), (15, 180))
    ]
    assert [one["frames"] for one in found["by_yaw"].values()] == counts
    assert found["by_yaw"]["over 15"]["psnr"] > found["by_yaw"]["over 15"]["psnr_copy"]
    assert found["run"]["model"]["compared_at"] == SIZE
    plain = compose_evaluation(["autoencoder=run", f"data.root={root}", "clips=1"], "evaluate")
    assert "by_yaw" not in autoencoder_evaluation.evaluate_autoencoder(
        plain, "alone", **parts
    )  # nothing is known of it
    there = ["evaluate", f"data.root={data}"]
    refused([*there, "autoencoder=run", "compared_at=big"], "compared_at=big: use a whole number of pixels")
