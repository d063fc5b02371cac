"""Sweeps beyond one setting: their files, series and points, following, the trade-off, pictures, and the search."""

import copy
import csv
import dataclasses
import io
import json
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from datamodules.errors import UserError
from datamodules.media.video import VideoReader
from experiments.config import config_names
from experiments.evaluation_setup import compose_evaluation, set_up
from experiments.report.sweep_figures import following_figure, sweep_pictures, sweep_rows
from experiments.sweep.analysis import motion_of
from experiments.sweep.command import refuse_other_sweep, run_sweep, sweep_main
from experiments.sweep.features import PooledFeatures
from experiments.sweep.following import following_of, scaled_blocks
from experiments.sweep.plan import read_plan
from experiments.sweep.points import PointMeter, Remembered
from experiments.sweep.records import Record
from experiments.sweep.search import check_search, objective_of, open_study
from lightning_modules.generation.options import GenerationOptions
from metrics.evaluation.clips import ClipFiles
from metrics.evaluation.detections import Detections
from metrics.evaluation.intervals import Interval
from metrics.evaluation.judges import Judges, motion_judges
from metrics.evaluation.picture_distances import PictureDistances
from metrics.evaluation.protocol import get_protocol
from metrics.motion import MotionCurves

OPTIONS = GenerationOptions()


class BlobJudge:
    """Sees where brightness lies in a frame, and takes it for the head's rotation."""

    name, sha256 = "blob", "0" * 64

    def measure(self, frames: np.ndarray) -> MotionCurves:
        light = frames.astype(float).mean(axis=3)
        sums = np.stack([light[:, :16].mean(axis=(1, 2)), light[:, :, :16].mean(axis=(1, 2))], axis=1)
        rotation = np.concatenate([sums, sums[:, :1]], axis=1)
        return MotionCurves(rotation, sums[:, 0] / 255, np.zeros(len(frames)))


def evaluated(build_model, root, seeds=(0,), **options):
    return set_up(
        build_model(),
        root,
        lambda *args, **more: BlobJudge(),
        seeds=seeds,
        split="train",
        max_frames=70,
        **options,
    )


def plan_of(name: str):
    config = compose_evaluation([f"sweep={name}", "data.root=x"], "sweep")["sweep"]
    return read_plan(config, OPTIONS)


@pytest.mark.parametrize("name", [name for name in config_names("sweep") if name != "search"])
def test_every_sweep_file_makes_sense(name):
    plan = plan_of(name)
    assert all(one.reference is not None for one in plan.series)
    settings = [point.options for one in plan.series for point in one.points]
    assert len(settings) == len({(one.name, p.value) for one in plan.series for p in one.points})
    for one in plan.series:
        assert len({point.options for point in one.points}) == len(one.points)  # the value reaches an option


def test_the_study_of_intensity_has_all_that_was_asked():
    plan = plan_of("motion_intensity")
    scaled = {
        one.name: {(p.options.scaling, p.options.intensity) for p in one.points} for one in plan.series[:2]
    }
    values = (0, 0.25, 0.5, 0.75, 1, 1.5, 2, 3)
    assert scaled == {name: {(name, value) for value in values} for name in ("motion", "statistics")}
    assert [(one.name, one.axis) for one in plan.series[2:]] == [
        ("statistics_guidance", ("statistics_guidance",)), ("noise_temperature", ("temperature",)),
    ]  # fmt: skip
    modes = {point.series: (point.options.statistics, point.options.std_quantile) for point in plan.points}
    assert modes == {
        "none": ("none", None), "source": ("source", None), "previous": ("previous", None), "std_low": ("none", 0.1),
        "std_high": ("none", 0.9), "estimated": ("estimated", None),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "asks for nothing"),
        ({"axis": "intensity", "values": []}, "give a list of numbers"),
        ({"axis": "intensity", "values": [1, 1]}, "none twice"),
        ({"axis": "intensity", "values": ["high"]}, "of the wrong type"),
        ({"axis": "nonsense", "values": [1]}, "no option 'nonsense'"),
        ({"axis": "seed", "values": [1]}, "no option 'seed'"),
        ({"axis": "steps", "values": [0.5]}, "steps is 0.5"),
        ({"axis": [], "values": [1]}, "name of an option"),
        ({"axis": "intensity", "values": [1], "serie": {}}, "no word 'serie'"),
        ({"points": {"a": {"intensity": -1}}}, "intensity is -1"),
        ({"points": {"a": 3}}, "a map of options"),
        ({"axis": "intensity", "values": [1], "series": {"a": None}, "points": {"a": None}}, "rename one"),
        ({"axis": "intensity", "values": [1], "judges": "some"}, "choose one of all, motion"),
    ],
)
def test_a_wrong_sweep_file_is_told(config, told):
    with pytest.raises(UserError, match=told):
        read_plan(config, OPTIONS)


PLAN = {
    "axis": "intensity",
    "values": [0, 1, 2],
    "reference": 1,
    "series": {
        "motion": {"scaling": "motion"},
        "statistics": {"scaling": "statistics"},
        "temperature": {"axis": "temperature", "values": [0, 1, 2]},
    },
    "points": {"none": {"statistics": "none"}, "estimated": {}},
    "following": True,
}


@pytest.fixture(scope="module")
def swept(build_model, fake_clips, tmp_path_factory):
    """A sweep of several series of an untrained model, and its folder."""
    folder = tmp_path_factory.mktemp("sweep")
    one = evaluated(build_model, fake_clips, clips=3)
    return run_sweep(one, read_plan(PLAN, OPTIONS), folder, motion_judges(one.judge)), folder


def test_equal_settings_are_rendered_once_and_say_the_same(swept):
    result, folder = swept
    assert len(result["rows"]) == 3 * 3 + 2
    # temperature 1 and estimated are motion 1
    assert len(list((folder / "clips").iterdir())) == 3 + 3 + 2 + 1
    rows = {(row.pop("series"), row.pop("value")): row for row in [dict(row) for row in result["rows"]]}
    assert rows["motion", 1] == rows["temperature", 1] == rows["estimated", None]
    assert rows["motion", 1] == rows["statistics", 1] != rows["motion", 2]
    assert json.loads((folder / "sweep.json").read_text()) == result


@pytest.mark.parametrize(("by_construction", "one"), [(True, 5), (False, 0)])
def test_ways_of_scaling_that_are_one_for_a_model_have_one_record(by_construction, one):
    """Up to intensity 1, where windows have the statistics that they are given; their points stay two."""
    diffusion = SimpleNamespace(by_construction=by_construction)
    evaluated = SimpleNamespace(model=SimpleNamespace(diffusion=diffusion))
    meter: Any = SimpleNamespace(evaluated=evaluated, base={}, following=True)
    plan = plan_of("motion_intensity")
    keys = [{point.value: PointMeter.key(meter, point) for point in one.points} for one in plan.series[:2]]
    same = {value for value, key in keys[0].items() if keys[1][value] == key}
    assert same == {0, 0.25, 0.5, 0.75, 1} if one else not same
    assert len({*keys[0].values(), *keys[1].values()}) == 16 - one


def test_differences_are_paired_and_words_follow_them(swept):
    result, _ = swept
    rows = {(row["series"], row["value"]): row for row in result["rows"]}
    [found] = [one for one in result["differences"] if (one["series"], one["value"]) == ("motion", 2)]
    expected = rows["motion", 2]["head_motion"]["value"] - rows["motion", 1]["head_motion"]["value"]
    assert found["head_motion"]["value"] == pytest.approx(expected)
    [answer] = [
        one for one in result["answers"] if (one["series"], one["measure"]) == ("motion", "head_motion")
    ]
    assert answer["word"] == "rises"
    assert answer["steps_up"] == [1, 2]
    assert answer["rank_correlation"] == pytest.approx(1)
    assert {one["value"] for one in result["differences"]} == {0, 2}


def test_a_mouth_is_traded_against_its_own_motion():
    found = {name: motion_of(plan_of(name)) for name in ("mouth_intensity", "motion_intensity", "steps")}
    assert found == {
        "mouth_intensity": "mouth_motion",
        "motion_intensity": "head_motion",
        "steps": "head_motion",
    }


def test_scaled_motion_follows(swept):
    """More is asked of head and rest alone, and scaled motion has more, but for the clamp."""
    result, _ = swept
    by_series = {one["series"]: one for one in result["following"]}
    assert set(by_series) == {"motion", "statistics"}  # temperature asks for no std
    motion = by_series["motion"]
    assert motion["scaled"] == ["head", "rest"]
    means = motion["blocks"]["sampled"]["head"]["means"]
    assert means[0]["realised"] == pytest.approx(0, abs=1e-3)
    assert means[0]["realised"] < means[1]["realised"] < means[2]["realised"]
    assert means[2]["requested"] == pytest.approx(2 * means[1]["requested"])
    assert set(motion["cross_talk"]["sampled"]) == {"mouth", "eyes"}
    assert len(motion["dimensions"]["rendered"]) == 20 - 3


def test_each_series_of_following_asks_its_own_blocks_and_eyes_where_they_answer():
    blocks = {"head": slice(0, 1), "mouth": slice(1, 2), "eyes": slice(2, 3), "rest": slice(3, 4)}
    series = plan_of("following").series
    asked = {one.name: scaled_blocks(one, blocks) for one in series}
    assert asked == {"head": ["head", "rest"], "mouth": ["mouth"], "eyes": ["eyes"]}
    assert [scaled_blocks(one, blocks, by_construction=False) for one in series if one.name == "eyes"] == [[]]


def test_following_by_hand():
    generator = np.random.default_rng(0)
    blocks, estimated = {"head": slice(0, 2), "mouth": slice(2, 3)}, generator.uniform(0.5, 1, (4, 1, 2, 3))
    stds = {}
    for value in (0.5, 1, 2):
        factors = np.array([value, value, 1.0])
        sampled = 0.1 + 0.5 * estimated * factors
        sampled[..., 2] *= 1 + 0.1 * (value - 1)  # the mouth is moved along
        rendered = np.minimum(estimated * factors, 1.0)
        stds[value] = [
            {"requested": one * factors, "sampled": two, "rendered": three}
            for one, two, three in zip(estimated, sampled, rendered, strict=True)
        ]
    found = following_of(stds, ["a", "a", "b", "c"], blocks, ["head"])
    assert found["cross_talk"]["sampled"] == {"mouth": pytest.approx(0.1)}
    for one in found["dimensions"]["sampled"]:
        assert (one["slope"], one["offset"], one["r2"]) == pytest.approx((0.5, 0.1, 1.0))
        assert one["saturation"] == pytest.approx(0, abs=1e-9)
    slope = found["blocks"]["sampled"]["head"]["slope"]
    assert slope["low"] <= slope["value"] <= slope["high"]
    assert slope["n"] == 4 * 2
    assert all(one["saturation"] > 0.5 for one in found["dimensions"]["rendered"])


def test_where_no_window_is_long_enough_to_tell_what_was_followed_the_plot_is_left_out(swept):
    result = copy.deepcopy(swept[0])
    for series in result["following"]:
        for blocks in series["blocks"].values():
            for line in blocks.values():
                line["means"] = [dict.fromkeys(mean) for mean in line["means"]]
    assert following_figure(swept[0]) is not None
    assert following_figure(result) is None


def base_of(result):
    run = result["run"]
    return {"weights": run["model"]["weights"], "seeds": run["seeds"], "protocol": result["protocol"]}


def test_a_folder_of_another_sweep_is_not_written_over(swept):
    result, folder = swept
    before, base = (folder / "sweep.json").read_bytes(), base_of(result)
    other = read_plan(
        {**PLAN, "series": {"guidance": {"axis": "guidance", "values": [1, 2]}}, "points": None}, OPTIONS
    )
    with pytest.raises(
        UserError, match="holds a sweep over motion, statistics, temperature, not guidance; choose"
    ):
        refuse_other_sweep(folder, other, base)
    assert (folder / "sweep.json").read_bytes() == before
    refuse_other_sweep(folder, read_plan(PLAN, OPTIONS), base)
    refuse_other_sweep(folder / "new", other, base)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"weights": "0" * 16}, "of another model"),
        ({"seeds": [0, 1, 7]}, "with seeds="),
        ({"protocol": {"hash": "0" * 16}}, "of other clips, or by other judges or settings"),
    ],
)
def test_a_folder_of_a_sweep_of_another_model_or_protocol_is_not_written_over(swept, other, told):
    result, folder = swept
    with pytest.raises(UserError, match=f"holds a sweep {told}.*; choose another output="):
        refuse_other_sweep(folder, read_plan(PLAN, OPTIONS), base_of(result) | other)


def test_pictures_tables_and_videos_show_every_point(swept, tmp_path):
    result, folder = swept
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "sweep.csv", "sweep.md", "sweep_plot_curves_intensity.png", "sweep_plot_curves_temperature.png",
        "sweep_plot_following.png", "sweep_plot_trade_off.png", "sweep_fake0.mp4", "sweep_sheet_fake0.png",
    }  # fmt: skip
    grid = VideoReader(folder / "sweep_fake0.mp4")
    assert len(grid) == 70
    assert grid.info.has_audio
    assert grid.info.width == 3 * 144
    [frame] = grid.get([35])
    heights = [row * (144 + 20) + 20 + 72 for row in range(4)]
    assert all(np.ptp(frame[y - 60 : y + 60, :288].astype(int)) > 20 for y in heights)  # four lines of videos
    assert (
        np.ptp(frame[heights[3] - 60 : heights[3] + 60, 300:].astype(int)) < 20
    )  # two points are in the last
    lines = list(csv.DictReader(io.StringIO((folder / "sweep.csv").read_text())))
    assert [line["series"] for line in lines] == [row["series"] for row in result["rows"]]
    assert float(lines[2]["head_motion_high"]) == result["rows"][2]["head_motion"]["high"]
    text = (folder / "sweep.md").read_text()
    for part in (
        "3 clips of 3 identities", "Under 6 identities", "| motion | Head motion (°) | rises |", "## Trade-off front",
        "## Following of statistics", "| real clips |", "## At equal measured motion",
    ):  # fmt: skip
        assert part in text, part


def test_a_sweep_file_of_before_is_read():
    known = {"value": 1.0, "low": 0.5, "high": 1.5, "n": 3}
    old = {
        "rows": [{"intensity": x, "head_motion": known, "sharpness": known} for x in (0.0, 1.0)],
        "missing": [],
    }
    assert [(row["series"], row["value"]) for row in sweep_rows(old)] == [
        ("intensity", 0.0),
        ("intensity", 1.0),
    ]
    assert set(sweep_pictures(old)) == {"sweep_plot_curves_intensity.png"}


def test_a_record_comes_back_as_it_was(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b_c": np.zeros((0, 4))}
    record = Record(
        {"head_motion": 1.5, "csim": float("nan")},
        {"real": [np.ones(3)], "generated": [np.zeros(3), np.full(3, np.nan)]},
        {"real": [arrays], "generated": [arrays, arrays]},
        [{"pictures": np.ones((2, 2))}, {}, {}],
        {"requested": np.ones((1, 2, 3))},
    )
    record.save(tmp_path / "a/b.npz")
    found = Record.load(tmp_path / "a/b.npz", features=True)
    np.testing.assert_equal(dataclasses.asdict(found), dataclasses.asdict(record))
    assert Record.load(tmp_path / "a/b.npz").features == []
    assert Record.load(tmp_path / "none.npz") is None
    (tmp_path / "a/b.npz").write_bytes(b"PK no archive")
    assert Record.load(tmp_path / "a/b.npz") is None


def test_a_judge_is_asked_once_of_the_same_frames():
    asked = []
    judge = Remembered(
        lambda frames, sounds: asked.append(1) or float(frames.sum() + sum(s.sum() for s in sounds))
    )
    frames, sound = np.ones((2, 3)), np.ones(2)
    assert judge(frames, [sound]) == judge(frames.copy(), [sound]) == 8
    assert len(asked) == 1
    assert judge(frames, [2 * sound]) == 10
    for number in range(40):
        judge(frames * number, [sound])
    assert len(judge.found) <= 16


class Thumbnail(nn.Module):
    num_features = 12

    def forward(self, images):
        images = images if images.ndim == 5 else images[:, None]
        pooled = nn.functional.adaptive_avg_pool2d(images.flatten(0, 1).float(), 2).flatten(1)
        return pooled.unflatten(0, images.shape[:2]).mean(dim=1)


def test_distances_of_kept_features_are_those_of_an_evaluation(fake_clips):
    """FID, KID and FVD of features that went through files equal those of one pass, takes and intervals and all."""
    protocol, generator = get_protocol("synthetic-v2", size=8), torch.Generator().manual_seed(0)
    judges = Judges(inception=Thumbnail(), i3d=Thumbnail(), efficientnet=Thumbnail())
    clips = []
    for k in range(4):
        video = fake_clips / f"clips/fake{k}.mp4"
        clips.append(ClipFiles(f"fake{k}", video, video, (), f"person{k % 3}", "v"))
    known = MotionCurves(np.zeros((90, 3)), np.zeros(90), np.zeros(90))
    direct, kept, real, made = (
        PictureDistances(judges, protocol, clips),
        PooledFeatures(judges, protocol, clips),
        [],
        [],
    )
    for files in clips:
        frames = [
            torch.randint(0, 256, (90, 3, 8, 8), dtype=torch.uint8, generator=generator) for _ in range(3)
        ]
        seen = [Detections(one, protocol, known) for one in frames]
        direct.add({"real": seen[:1], "generated": seen[1:]}, files)
        features = [kept.of(one, files.name) for one in frames]
        real.append(features[0])
        made.append(features[1:])
    found, _ = direct.compute()
    expected = {name: found[name] for name in ("fid", "kid", "fd_efficientnet_lite0", "fvd")}
    assert kept.distances([files.identity for files in clips], real, made) == expected


SEARCH = {
    "trials": 3,
    "seed": 0,
    "options": {"intensity": {"low": 0.5, "high": 2.0}, "scaling": {"choices": ["motion", "statistics"]}},
    "objective": {"head_motion": {"weight": -1.0, "target": "real"}, "jitter": {"weight": -0.5}},
}


def test_an_objective_is_weighted_and_distances_are_to_targets():
    def metrics(**values):
        return {name: Interval(value, None, None, 1) for name, value in values.items()}

    known = metrics(head_motion=5.0, head_motion_real=3.0, jitter=2.0)
    assert objective_of(known, SEARCH["objective"]) == pytest.approx(-2.0 / 3 - 1.0)
    assert objective_of(known, {"head_motion": {"weight": -1, "target": 6}}) == pytest.approx(-1)
    assert objective_of(metrics(head_motion=5.0, jitter=2.0), SEARCH["objective"]) is None
    assert objective_of(metrics(jitter=None), {"jitter": {"weight": 1}}) is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"trials": 0}, "whole number from 1"),
        ({"more": 1}, "nothing else"),
        ({"options": {"intensity": {"low": 2, "high": 1}}}, "give {low: A, high: B}"),
        ({"options": {"intensity": {"choices": []}}}, "give {low: A, high: B}"),
        ({"objective": {"beauty": {"weight": 1}}}, "no measure 'beauty'"),
        ({"objective": {"jitter": 1}}, "give {weight: W}"),
        ({"objective": {"jitter": {"weight": 1, "target": "best"}}}, "a number or real"),
    ],
)
def test_a_wrong_search_is_told(change, told):
    with pytest.raises(UserError, match=told):
        check_search({**SEARCH, **change})


def test_the_shipped_search_makes_sense():
    search = compose_evaluation(["sweep=search", "data.root=x"], "sweep")["sweep"]["search"]
    assert check_search(search) is search
    assert all(hasattr(OPTIONS, name) for name in search["options"])


def test_a_search_goes_on_where_it_was_cut_off(build_model, fake_clips, tmp_path):
    pytest.importorskip("optuna")
    words = [
        "sweep=search", f"data.root={fake_clips}", f"output={tmp_path}", "split=train", "clips=1", "max_frames=70",
        "seeds=[0]", "sweep.search.objective={head_motion:{weight:1.0}}", "~sweep.search.options.temperature",
        "~sweep.search.options.guidance",
    ]  # fmt: skip
    words[7:8] = ["~sweep.search.objective.av_corr_zero", "~sweep.search.objective.jitter"]
    parts = {"load_model": lambda *names: build_model(), "load_judge": lambda *args, **more: BlobJudge()}

    def search(trials: int) -> dict:
        assert sweep_main([*words, f"sweep.search.trials={trials}"], **parts) == 0
        return json.loads((tmp_path / "sweep.json").read_text())

    first = search(2)
    assert [row["objective"] for row in first["rows"]] == sorted(
        (row["objective"] for row in first["rows"]), reverse=True
    )
    assert first["best"]["options"] == first["rows"][0]["options"]
    study = open_study(tmp_path / "search.db", 0)
    cut = study.ask()  # a process that was killed while it rendered
    asked = (
        cut.suggest_float("intensity", 0.5, 2.0),
        cut.suggest_categorical("scaling", ["motion", "statistics"]),
    )
    more = search(4)
    kept = [row for row in more["rows"] if row["series"] in {one["series"] for one in first["rows"]}]
    assert kept == first["rows"]
    assert len(more["rows"]) == 4
    tried = [(row["options"]["intensity"], row["options"]["scaling"]) for row in more["rows"]]
    assert asked in [(pytest.approx(value), scaling) for value, scaling in tried]
    assert len({value for value, _ in tried}) == 4
    with sqlite3.connect(tmp_path / "search.db") as database:
        states = [state for (state,) in database.execute("select state from trials")]
    assert sorted(states) == ["COMPLETE"] * 4 + ["FAIL"]
    with pytest.raises(UserError, match="a search for something else"):
        sweep_main([*words, "sweep.search.options.intensity.high=3.0"], **parts)


def test_the_sweep_of_ones_own_in_the_docs_makes_sense():
    text = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text()
    plan = read_plan(yaml.safe_load(text.split("```yaml\n")[1].split("```")[0]), OPTIONS)
    assert [(one.name, one.axis, one.reference) for one in plan.series] == [
        ("calm", ("guidance",), 1),
        ("lively", ("guidance",), 1),
        ("by_temperature", ("temperature",), 1),
    ]
    assert {point.options.intensity for point in plan.series[1].points} == {1.5}
    assert [point.series for point in plan.points] == ["no_statistics"]
