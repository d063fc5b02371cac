"""``ifmdm leaderboard``: what is ranked with what, by more than chance; its three forms; results of strangers."""

import copy
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.media.video import write_video
from experiments.cli import main
from experiments.leaderboard import read_entries
from experiments.report.leaderboard import side_by_side
from experiments.report.ranking import Board, Entry, make_boards
from metrics.evaluation.intervals import cluster_bootstrap

PEOPLE = 8
SETTINGS = {
    "reading": {"size": 512, "crop": "as given"},
    "sync": {"minimum_frames": 100},
    "task": "generation",
}
MEASURES = {
    "csim": "c" * 16,
    "jitter": "j" * 16,
    "head_motion": "h" * 16,
    "fid": "f" * 16,
    "flicker": "k" * 16,
}


def made(method: str, shift: float = 0.0, noise: float = 0.01, people: int = PEOPLE, **changes: Any) -> dict:
    """Results of a method that is worse by ``shift`` in everything, give or take; the clips' own differences are larger."""
    generator = np.random.default_rng(sum(method.encode()))
    base = np.linspace(0, 0.4, people)
    told = shift + noise * generator.permutation(np.resize([-1, 1], people))
    values = {
        "csim": 0.9 - base - told,
        "jitter": 0.01 + base + told,
        "head_motion": 3 + base + told,
        "head_motion_real": 3 + base,
        "csim_real": 0.95 - base,
        "csim_still": np.ones(people),
        "csim_autoencoder": 0.92 - base - told,
        "flicker": 2 + told,
    }
    identities = [f"person{k}" for k in range(people)]
    metrics = {name: vars(cluster_bootstrap(one, identities)) for name, one in values.items()}
    metrics["fid"] = {"value": 20 + 20 * shift, "low": 19 + 20 * shift, "high": 21 + 20 * shift, "n": people}
    clips = [
        {"clip": f"clip{k}", "identity": identities[k]}
        | {name: float(one[k]) for name, one in values.items()}
        for k in range(people)
    ]
    protocol = {
        "name": "talking-head-v2", "hash": "0" * 16, "data": "d" * 16, "files": "b" * 16, "measures": {**MEASURES},
        "settings": copy.deepcopy(SETTINGS),
    }  # fmt: skip
    run = {"videos": "v", "judges": {"mobilefacenet": "1" * 64}}
    whole = {
        "protocol": protocol,
        "method": method,
        "run": run,
        "metrics": metrics,
        "clips": clips,
        "missing": [],
    }
    return {**whole, "notes": [], **changes}


@pytest.fixture
def save(tmp_path: Path):
    """Writes results, each into a folder of its own below one, and returns that."""

    def write(*results: dict, folders: tuple[str, ...] = ()) -> Path:
        root = tmp_path / "results"
        for place, one in enumerate(results):
            folder = root / (folders[place] if folders else f"run{place}")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "results.json").write_text(json.dumps(one))
        return root

    return write


def board_of(root: Path) -> Board:
    (board,) = make_boards(read_entries([root]))
    return board


def ranks(board: Board, measure: str) -> list[tuple[str, int | None]]:
    (ranking,) = [one for one in board.rankings if one.measure.name == measure]
    return [(line.entry.name, line.rank) for line in ranking.lines]


def test_directions_and_ties(save):
    board = board_of(save(made("worst", 0.4), made("best"), made("alike", 0.001), made("middle", 0.2)))
    for name in ("csim", "jitter", "head_motion", "fid"):
        found = ranks(board, name)
        assert [one for one, _ in found][2:] == ["middle", "worst"], name
        assert [rank for _, rank in found] == [1, 1, 3, 4], name
    assert {rank for _, rank in ranks(board, "flicker")} == {
        None
    }  # as on real video, and nothing real is known
    names, means = board.mean_ranks()
    assert names == ["FID", "CSIM", "Head motion", "Jitter"]
    assert means == {"worst": 4.0, "best": 1.0, "alike": 1.0, "middle": 3.0}


def test_the_pairs_of_clips_tell_what_overlapping_intervals_hide(save):
    board = board_of(save(made("best"), made("other", 0.05)))
    (ranking,) = [one for one in board.rankings if one.measure.name == "csim"]
    first, second = ranking.lines
    assert second.interval["high"] > first.interval["low"]
    assert (first.rank, second.rank) == (1, 2)
    assert second.behind["value"] == pytest.approx(0.05, abs=0.015)
    clips = [{clip["clip"]: clip["csim"] for clip in line.entry.results["clips"]} for line in ranking.lines]
    paired = cluster_bootstrap([clips[0][name] - clips[1][name] for name in clips[0]], [*clips[0]])
    assert second.behind == pytest.approx(vars(paired))


def test_nearest_to_the_real_clips_is_best_on_either_side(save):
    calm, wild, fine = made("calm", -0.3), made("wild", 0.5), made("fine", 0.1)
    assert ranks(board_of(save(calm, wild, fine)), "head_motion") == [("fine", 1), ("calm", 2), ("wild", 3)]


def test_few_people_tell_nothing_from_chance(save):
    board = board_of(save(made("best", people=5), made("worst", 0.5, people=5)))
    assert ranks(board, "csim") == [("best", 1), ("worst", 1)]
    assert "fewer than 6" in board.notes[0]


def changed(results: dict, measure: str, hash: str = "x" * 16, **settings: Any) -> dict:
    results["protocol"]["measures"][measure] = hash
    for group, values in settings.items():
        results["protocol"]["settings"][group] = values
    return results


def test_a_measure_is_ranked_where_its_hash_agrees(save):
    other = changed(made("other"), "csim")
    other["run"]["judges"]["mobilefacenet"] = "2" * 64
    board = board_of(save(made("one"), made("two", 0.3), other))
    (ranking,) = [one for one in board.rankings if one.measure.name == "csim"]
    assert [(line.entry.name, line.rank) for line in ranking.lines] == [
        ("one", 1),
        ("two", 2),
        ("other", None),
    ]
    assert ranking.lines[-1].why == "not ranked: judge mobilefacenet"
    assert {rank for _, rank in ranks(board, "jitter")} == {
        1,
        3,
    }  # the other measures are ranked all the same


def test_the_setting_that_differs_is_named(save):
    settings = {**SETTINGS, "jitter": {"cutoff_hz": 6.0}}
    usual, other = made("usual"), made("other")
    for one, cutoff in ((usual, 6.0), (other, 5.0)):
        one["protocol"]["settings"] = {**settings, "jitter": {"cutoff_hz": cutoff}}
    board = board_of(save(usual, changed(other, "jitter")))
    (ranking,) = [one for one in board.rankings if one.measure.name == "jitter"]
    assert ranking.lines[-1].why == "not ranked: jitter.cutoff_hz 5.0 instead of 6.0"


def test_other_data_stand_apart_and_say_why(save):
    small = made("small")
    small["protocol"] |= {
        "data": "e" * 16,
        "settings": {**SETTINGS, "reading": {"size": 256, "crop": "as given"}},
    }
    fewer = made("fewer", people=6)
    fewer["protocol"] |= {"data": "a" * 16}
    cut = made("cut")
    cut["protocol"] |= {"data": "9" * 16}
    first, *others = make_boards(read_entries([save(small, made("one"), made("two"), fewer, cut)]))
    assert [one.name for one in first.entries] == ["one", "two"]
    assert {one.entries[0].name: one.apart for one in others} == {
        "small": "reading.size 256 instead of 512",
        "fewer": "2 clips fewer",
        "cut": "clips of these names that were cut otherwise (source, start, crop, length or identity)",
    }


def test_a_method_that_lost_clips_or_has_no_value_is_not_ranked(save):
    lost, without = made("lost"), made("without")
    lost["clips"] = lost["clips"][:6]
    for one in lost["metrics"].values():
        one["n"] = 6
    del without["metrics"]["csim"]
    without["missing"] = [{"clip": "*", "what": "aed, csim", "why": "no model"}]
    board = board_of(save(made("one"), lost, without))
    (ranking,) = [one for one in board.rankings if one.measure.name == "csim"]
    told = {line.entry.name: (line.rank, line.why) for line in ranking.lines}
    assert told == {
        "one": (1, ""),
        "lost": (None, "not ranked: 6 of 8 clips"),
        "without": (None, "no value: no model"),
    }


def test_ceilings_and_floors_are_marked_rows(save):
    board = board_of(save(made("one"), made("two")))
    (ranking,) = [one for one in board.rankings if one.measure.name == "csim"]
    assert set(ranking.marked) == {
        ("real", ""),
        ("still", ""),
        ("autoencoder", "one"),
        ("autoencoder", "two"),
    }
    assert ranking.marked["still", ""]["value"] == 1


def test_a_row_that_all_share_stands_once():
    one, two = made("one"), made("two", 0.1)
    two["metrics"]["csim_autoencoder"] = one["metrics"]["csim_autoencoder"]
    [board] = make_boards([Entry(name, results, Path()) for name, results in (("one", one), ("two", two))])
    csim = next(ranking for ranking in board.rankings if ranking.measure.name == "csim")
    assert ("autoencoder", "") in csim.marked
    assert len(csim.marked) == 3


def test_names_are_told_apart_and_no_file_counts_twice(save):
    root = save(made("ours"), made("ours", 0.2), made("theirs"), folders=("a", "b", "c"))
    assert [one.name for one in read_entries([root, root / "a", root / "c/results.json"])] == [
        "ours (a)", "ours (b)", "theirs",
    ]  # fmt: skip
    other = save(made("ours"), made("ours"), folders=("x/a", "y/a"))
    assert [one.name for one in read_entries([other / "x", other / "y"])] == ["ours (a) 1", "ours (a) 2"]


def test_the_three_forms(save, tmp_path, capsys):
    root = save(made("<b>one|1"), made("two", 0.3))
    for suffix in (".md", ".csv", ".html"):
        assert main(["leaderboard", str(root), "--output", str(tmp_path / f"board{suffix}")]) == 0
    capsys.readouterr()
    assert main(["leaderboard", str(root)]) == 0
    text = capsys.readouterr().out
    assert text == (tmp_path / "board.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| &lt;b>one\\|1 |"))
    assert "(#1)" in row
    assert "| *real video* |" in text
    assert text.index("## Numbers quoted from papers") > text.index("### CSIM")
    widths = [
        {line.count(" |") for line in part.splitlines() if line[:1] == "|"} for part in text.split("\n\n")
    ]
    assert all(len(one) <= 1 for one in widths)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "board.csv").read_text())))
    assert {row["row"] for row in rows} == {"method", "real", "still", "autoencoder", "published"}
    (found,) = [
        row for row in rows if row["measure"] == "csim" and row["method"] == "two" and row["row"] == "method"
    ]
    assert found["rank"] == "2"
    assert float(found["behind_low"]) > 0
    quoted = [row for row in rows if row["row"] == "published" and row["method"] == "FLOAT"]
    assert {row["rank"] for row in quoted} == {""}
    assert {row["remark"] for row in quoted} == {"FLOAT (arXiv 2412.01064), table 1", "IMTalker, table 2"}
    page = (tmp_path / "board.html").read_text()
    assert "<b>one" not in page
    assert "&lt;b&gt;one|1" in page
    assert page.count("<table") == 2 + 5
    assert page.count("<svg") == page.count("</svg>") > 10
    assert "aria-sort" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)


def test_bars_reach_from_zero_to_the_value(save, tmp_path):
    main(["leaderboard", str(save(made("one"), made("two", 0.5))), "--output", str(tmp_path / "board.html")])
    page = (tmp_path / "board.html").read_text()
    part = page[page.index("FID (fid") :]
    widths = [float(one) for one in re.findall(r'<rect x="0.0" y="1" width="([\d.]+)"', part)[:2]]
    assert widths[0] / widths[1] == pytest.approx(20 / 30, abs=0.01)


def video(path: Path, noise: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    frames = 128 + generator.integers(-noise - 1, noise + 1, (50, 160, 160, 3))
    write_video(path, frames.astype(np.uint8), crf=1 if noise > 90 else 30)


def test_videos_of_the_same_clips_stand_side_by_side(save, tmp_path):
    root = save(made("one"), made("two"), made("none"))
    video(root / "run0/gallery/rows_clip3.mp4", 5)
    video(root / "run0/clip1.mp4", 5)
    video(root / "run1/videos/clip3.mp4", 120)
    video(root / "run1/stranger.mp4", 5)
    video(tmp_path / "secret.mp4", 5)
    (root / "run1/clip2.mp4").symlink_to(tmp_path / "secret.mp4")
    assert (root / "run1/videos/clip3.mp4").stat().st_size > 1_000_000
    shown = [caption for _, caption in side_by_side(read_entries([root]))]
    assert shown == ["one: clip3", "two: clip3", "one: clip1"]
    out = tmp_path / "page of boards" / "board.html"
    assert main(["leaderboard", str(root), "--output", str(out)]) == 0
    page = out.read_text()
    sources = re.findall(r'<video[^>]* src="([^"]{1,60})', page)
    assert [one[:14] for one in sources] == ["data:video/mp4", "../results/run", "data:video/mp4"]
    assert (out.parent / sources[1]).resolve() == (root / "run1/videos/clip3.mp4").resolve()
    assert "videos over 1 MB lie beside it" in page


def spoiled(**parts: Any) -> dict:
    results = made("one")
    for key, value in parts.items():
        results[key] = {**results[key], **value} if isinstance(results[key], dict) else value
    return results


@pytest.mark.parametrize(
    "results",
    [
        {},
        [],
        spoiled(protocol={"measures": None}),
        spoiled(protocol={"data": 3}),
        spoiled(protocol={"settings": "all"}),
        spoiled(metrics={"csim": {"value": "high", "low": None, "high": None, "n": 1}}),
        spoiled(metrics={"csim": {"value": [1], "low": None, "high": None, "n": 1}}),
        spoiled(clips=["clip"]),
        spoiled(clips=[]),
        spoiled(clips=[{"clip": "a", "identity": "b", "csim": "x"}]),
        spoiled(run={"judges": 3}),
        spoiled(method=["one"]),
    ],
)
def test_results_of_another_form_are_one_line(results, save, refused, tmp_path):
    root = save(made("fine"), results)
    refused(["leaderboard", root, "--output", tmp_path / "board.md"], "run1/results.json")
    assert not (tmp_path / "board.md").exists()


def test_what_is_not_there_is_one_line(refused, tmp_path):
    assert "holds no results.json" in refused(["leaderboard", tmp_path])
    assert "nowhere: no such results file" in refused(["leaderboard", tmp_path / "nowhere"])
    assert ".md, .html, .csv" in refused(["leaderboard", tmp_path, "--output", tmp_path / "board.pdf"])
