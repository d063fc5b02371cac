import base64
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.errors import UserError
from datamodules.media.video import read_video
from experiments.cli import main
from experiments.pictures import contact_sheet, side_by_side, spread
from experiments.report.command import write_report
from experiments.report.figures import read_curves
from experiments.report.sections import collect_sections
from experiments.report.tables import ROW_TITLES, VIDEO_TITLES, interval, number
from experiments.results import write_json, write_results, write_whole
from metrics.evaluation.registry import MEASURES


def _interval(value: float) -> dict:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 8}


def fake_run(
    folder: Path, metrics: dict | None = None, name: str = "synthetic-v2", **results: object
) -> Path:
    """A folder with one of every artefact; ``metrics`` and other parts of its results may be given."""
    frames = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    contact_sheet({"a": frames[:1], "b": spread(frames, 5)}, folder / "gallery" / "sheet_a.png", tile=32)
    contact_sheet({"clips": frames}, folder / "data_sheet.png", tile=32)
    side_by_side({"true": frames, "generated": frames}, folder / "gallery" / "rows_a.mp4", tile=32)
    write_json(folder / "times.json", {"data": 61.2, "stage 1": 300})
    machine = {"cores": 2, "packages": {"torch": "2.x"}}
    run = {"machine": machine, "stage": "autoencoder", "name": "tiny", "steps": 7, "seconds": 130.0}
    asked = {"ablation": ["no_std", "zero_null"], "seed": 31, "overrides": ["data.root=somewhere"]}
    write_json(folder / "runs" / "autoencoder" / "run.json", run | asked)
    for step in (5, 10):
        contact_sheet({"": frames}, folder / "runs" / "autoencoder" / "samples" / f"step_{step:06d}.png")
    steps = "".join(f"0,{i},{1 / (i + 1)},\n" for i in range(9))
    log = f"epoch,step,train/loss,val/loss\n{steps}0,9,,0.5\n1,19,,0.2"
    write_whole(folder / "runs" / "autoencoder" / "metrics" / "version_0" / "metrics.csv", log)
    usual = {"psnr": 27.123, "lip_corr_zero": 0.71, "mouth_error_removed": 0.634}
    absent = {"lip_corr_still": {"value": None, "low": None, "high": None, "n": 0}}
    content = {
        "protocol": {"name": name, "hash": "0123456789abcdef", "data": "d", "measures": {}},
        "method": "<b>ifmdm</b>",
        "run": {"judge": {"name": "frame-regressor", "held_out_r2": {"lip_opening": 0.934}}},
        "metrics": metrics or absent | {key: _interval(value) for key, value in usual.items()},
        "clips": [{"clip": "a", "identity": "x", "psnr": 27.1}],
        "missing": [{"clip": "b", "what": "all", "why": "cut off"}],
        "lag_curves": {"generated": np.hanning(21).tolist()},
    }
    write_results(folder / "results.json", content | results)
    names = ("head_motion", "lip_corr_zero", "sharpness")
    rows = [{"intensity": x, **{name: _interval(x + 0.5) for name in names}} for x in (0.0, 1.0)]
    write_json(folder / "sweep" / "sweep.json", {"rows": rows, "missing": []})
    return folder


def table_of(text: str, caption: str) -> list[list[str]]:
    """Cells of the table with that caption, line by line."""
    table = re.search(rf"<h3>{caption}</h3>.*?</table>", text, re.DOTALL)[0]
    lines = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    return [re.findall(r"<t[dh]>(.*?)</t[dh]>", line, re.DOTALL) for line in lines]


def test_page_holds_everything_in_itself(tmp_path):
    page = write_report([fake_run(tmp_path)])
    text = page.read_text()
    links = re.findall(r'\b(?:src|href|xlink:href)\s*=\s*["\']?([^"\'\s>]+)', text)
    assert len(links) > 5
    assert all(link.startswith(("data:", "#")) for link in links)
    assert not re.search(r"url\((?!#)", text)
    for expected in (
        "27.1 dB", "[27.0,\u00a027.2]", "63.4%", "0.71", "lip opening 0.93", "b: all (cut off)", "61 s", "5 min 00 s",
        "2 min 10 s", "no_std, zero_null", "<td>31</td>", "data.root=somewhere",
    ):  # fmt: skip
        assert expected in text, expected
    assert "autoencoder, step 10" in text
    assert "step 5;" not in text
    assert "&lt;b&gt;ifmdm" in text
    assert "<b>ifmdm" not in text
    assert text.count("<svg") == 3  # training, lag, sweep
    [video] = re.findall(r'data:video/mp4;base64,([^"]+)"', text)
    assert base64.b64decode(video) == (tmp_path / "gallery" / "rows_a.mp4").read_bytes()


@pytest.mark.parametrize(
    ("protocol", "cells"),
    [
        ("synthetic-v2", ["Jitter (°)", "0.12", "0.30"]),
        ("talking-head-v2", ["Jitter (eye distances)", "0.1235", "0.3000"]),
    ],
)
def test_jitter_has_the_unit_of_its_judge(tmp_path, protocol, cells):
    fake_run(tmp_path, {"jitter": _interval(0.3), "jitter_real": _interval(0.12345)}, protocol)
    assert table_of(write_report([tmp_path]).read_text(), "Side by side")[1] == cells


def test_anyones_videos_stand_in_their_own_row(tmp_path):
    """Bare names mean the method's videos, where of a model its PSNR is that of the autoencoder."""
    values = {"psnr": 27.1, "psnr_autoencoder": 25.2, "psnr_still": 20.4}
    metrics = {name: _interval(value) for name, value in values.items()}
    note = "1 of 2 clips judged: rank only beside results of the same clips"
    fake_run(tmp_path, metrics, run={"videos": "somewhere"}, notes=[note])
    text = write_report([tmp_path]).read_text()
    head, row = table_of(text, "Side by side")
    ours, still, theirs = (
        "real motion, a model&#39;s autoencoder",
        "still source frame",
        "the method&#39;s videos",
    )
    assert head[1:] == [ours, still, theirs]
    assert row == ["PSNR (dB)", "25.2", "20.4", "27.1"]
    assert "no stage was trained on" not in text
    assert note in text


def test_every_measure_stands_in_the_report(tmp_path):
    """FID, floors and shares, distances of motion: whatever an evaluation finds is told in words, with its unit."""
    names = [name for name in MEASURES if name != "mouth_lmd_best"] + ["mouth_lmd_best_of_3"]
    metrics = {name: _interval(0.31) for name in names}
    metrics["lse_c_real"] = metrics.pop("lse_c")  # the method's lips were not seen
    fake_run(tmp_path, metrics, run={"videos": "somewhere"})
    told = table_of(write_report([tmp_path]).read_text(), "Measures")
    assert len(told) == 1 + len(names)
    assert [row for row in told if row[1] == "–"] == [["LSE-C", "–", MEASURES["lse_c"].meaning]]


def test_a_value_of_fewer_clips_says_so(tmp_path):
    metrics = {"csim": _interval(0.8) | {"n": 7}, "csim_real": _interval(0.9)}
    clips = [{"clip": name, "identity": name} for name in "abcdefgh"]
    missing = [{"clip": "*", "what": "fid", "why": "no file"}]
    fake_run(tmp_path, metrics, run={"videos": "somewhere"}, clips=clips, missing=missing)
    text = write_report([tmp_path]).read_text()
    assert table_of(text, "Measures")[1][1].endswith("(7 of 8 clips)")
    assert table_of(text, "Side by side")[1] == ["CSIM", "0.90", "0.80 (7 of 8 clips)"]
    assert "missing: all clips: fid (no file)" in text


def test_results_of_different_hashes_are_not_for_ranking(tmp_path):
    folders = [fake_run(tmp_path / name) for name in ("one", "two")]
    page = tmp_path / "page.html"
    assert "may not be ranked" not in write_report(folders, page).read_text()
    fake_run(tmp_path / "two", protocol={"name": "synthetic-v2", "hash": "f" * 16})
    assert write_report(folders, page).read_text().count("may not be ranked") == 2


def test_command_takes_several_folders(tmp_path, refused):
    fake_run(tmp_path / "one")
    fake_run(tmp_path / "two")
    page = tmp_path / "both.html"
    assert main(["report", str(tmp_path / "one"), str(tmp_path / "two"), "--output", str(page)]) == 0
    assert "Motion intensity (two)" in page.read_text()
    (tmp_path / "empty").mkdir()
    refused(["report", tmp_path / "absent"], "no such folder")
    refused(["report", tmp_path / "empty"], "nothing to report")
    assert not (tmp_path / "empty" / "report.html").exists()


def test_damaged_artefacts_are_named(tmp_path):
    (tmp_path / "results.json").write_text('{"protocol": {}}')
    with pytest.raises(UserError, match=r"results\.json.*lacks"):
        write_report([tmp_path])


@pytest.mark.parametrize("how", ["link", "linked folder", "folder", "pipe"])
def test_links_out_of_the_folder_are_left_out(tmp_path, how):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret.png").write_bytes(b"the secret")
    run = tmp_path / "run"
    contact_sheet({"clips": np.zeros((1, 32, 32, 3), np.uint8)}, run / "data_sheet.png", tile=32)
    place = run / "secret.png"
    if how == "link":
        place.symlink_to(tmp_path / "outside/secret.png")
    elif how == "linked folder":
        place = run / "linked"
        place.symlink_to(tmp_path / "outside")
    elif how == "folder":
        place.mkdir()
    else:
        os.mkfifo(place)
    (run / "inside.png").symlink_to(run / "data_sheet.png")
    text = write_report([run]).read_text()
    assert base64.b64encode(b"the secret").decode() not in text
    assert ("left out" in text) is (how != "linked folder")
    assert "<figcaption>inside" in text


def test_what_is_no_picture_is_noted_and_not_embedded(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run")
    (run / "page.png").write_bytes(b"<html>no picture</html>")
    (run / "cut.png").write_bytes((run / "data_sheet.png").read_bytes()[:200])
    text = write_report([run]).read_text()
    assert base64.b64encode(b"<html>no picture</html>").decode() not in text
    for name in ("page.png", "cut.png"):
        assert f"{name}: is no picture that can be shown" in text


def test_a_folder_of_links_alone_holds_nothing(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/results.json").symlink_to("/etc/hostname")
    with pytest.raises(UserError, match=r"nothing to report.*link that leads out"):
        write_report([tmp_path / "run"])


STRANGE = [
    None,
    "x",
    [],
    {},
    -1,
    1e308,
    [[1]],
    [{"clip": []}],
    {"a": {}},
    {"a": [1e308, -1e308]},
    {"$x^{$": [1, 2]},
]


@pytest.mark.parametrize(
    "name", ["results.json", "sweep/sweep.json", "times.json", "runs/autoencoder/run.json"]
)
def test_json_of_any_form_is_told_or_shown(tmp_path, name):
    original = json.loads((fake_run(tmp_path / "run") / name).read_text())
    strange = tmp_path / "strange"
    strange.mkdir()
    texts = [json.dumps(original | {key: value}) for key in original for value in STRANGE]
    nested = "[" * 100_000 + "]" * 100_000
    texts += [
        "",
        "[]",
        "1e999",
        nested,
        '{"a": NaN}',
        '{"a": 1, "a": 2}',
        '{"seconds": 1e999}',
        f'{{"a": {10**400}}}',
    ]
    refused = []
    for text in texts:
        (strange / Path(name).name).write_text(text)
        try:
            collect_sections(strange)
        except UserError as error:
            refused.append(str(error))
    assert len(refused) >= 8
    assert all(Path(name).name in one and "\n" not in one and len(one) < 600 for one in refused)


def test_logs_of_any_form_are_told_or_shown(tmp_path):
    head = "epoch,step,train/loss\n0,1,1\n0,2,2\n"
    strange = {
        "a" * 200_000: "field larger", ",".join(f"c{n}" for n in range(300)) + "\n": "more than 200 curves",
        head.replace("loss", "$x^{$"): "", head + "0,x,\xff\x00\n0,3,1,2,3,4\n": "", head.replace("2", "1e30"): "",
    }  # fmt: skip
    for content, reason in strange.items():
        (tmp_path / "metrics.csv").write_bytes(content.encode("latin-1"))
        (tmp_path / "step_x.png").write_bytes(b"no picture")
        if reason:
            with pytest.raises(UserError, match=rf"metrics\.csv.*{reason}"):
                collect_sections(tmp_path)
        else:
            assert len(collect_sections(tmp_path)[0].figures) == 1
    with (tmp_path / "metrics.csv").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match="over 64 MB"):
        collect_sections(tmp_path)


def test_large_videos_are_named_instead(tmp_path):
    (tmp_path / "long.mp4").write_bytes(b"0" * 1_200_000)
    text = write_report([tmp_path]).read_text()
    assert "not embedded (1.2 MB): long.mp4" in text
    assert "<video controls" not in text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(27.123, "dB", "27.1 dB"), (0.634, "%", "63.4%"), (-0.4, "frames", "0 frames"),
     (-2.0, "frames", "−2 frames"), (3.14159, "°", "3.14°"), (0.0123, "", "0.012"), (0.712, "", "0.71"),
     (None, "dB", "–")],
)  # fmt: skip
def test_numbers_are_rounded_by_their_unit(value, unit, text):
    assert number(value, unit) == text


def test_intervals_state_the_unit_once():
    assert interval(_interval(27.1), "dB") == "27.1 dB [27.0,\u00a027.2]"
    assert interval({"value": 1.0, "low": None, "high": None, "n": 1}, "dB") == "1.0 dB"
    assert interval(None) == "–"


def test_curves_skip_empty_cells(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,train/loss,val/loss,once\n0,1.0,,3\n1,nan,,\n2,0.5,0.7,\n3,,0.6,\n")
    assert read_curves(path) == {"train/loss": [(0, 1.0), (2, 0.5)], "val/loss": [(2, 0.7), (3, 0.6)]}


def test_pictures_have_their_frames(tmp_path):
    frames = np.zeros((30, 20, 20, 3), np.uint8)
    frames[:, :, :, 0] = np.arange(30)[:, None, None] * 8
    assert spread(frames, 4)[:, 0, 0, 0].tolist() == [0, 80, 152, 232]
    path = contact_sheet({"a": spread(frames, 4), "b": frames[:2]}, tmp_path / "s.png", tile=20)
    assert (np.asarray(Image.open(path))[10] == [232, 0, 0]).all(axis=1).any()
    clips, sound = {"a": frames, "b": frames[:25]}, np.zeros(16000, np.float32)
    video = read_video(side_by_side(clips, tmp_path / "v.mp4", sound, tile=32))
    assert video.shape == (25, 24 + 32, 64, 3)
    with pytest.raises(ValueError, match="needs frames"):
        contact_sheet({"a": []}, tmp_path / "none.png")


def test_every_row_has_a_title():
    from metrics.evaluation.clip_results import ROW_FAMILIES

    rows = {row for one in ROW_FAMILIES.values() for row in (*one.reconstruction, *one.generation)}
    assert set(ROW_TITLES) == set(VIDEO_TITLES) == rows | {"real", "shuffled"}
