"""The demo: all steps from nothing to the report, and the folder it works in."""

import json
import math
from pathlib import Path

import pytest

from datamodules.errors import UserError
from experiments.demo import MARKER_NAME, Demo

STEPS = ("prepare", "autoencoder", "statistics", "diffusion", "package", "evaluate", "sweep")


@pytest.fixture
def steps(monkeypatch) -> list[str]:
    """Names of the steps that are taken; none does any work."""
    taken: list[str] = []
    for name in STEPS:
        monkeypatch.setattr(Demo, name, lambda self, name=name: taken.append(name))
    monkeypatch.setattr("experiments.report.write_report", lambda folder, page, title: page)
    return taken


def test_fast_demo_from_nothing_to_the_report(tmp_path: Path, monkeypatch) -> None:
    """Synthetic heads, three stages, model folder, evaluation, sweep and report; a second run takes no step."""
    folder = tmp_path / "demo"
    page = Demo(folder, workers=2, fast=True).run()
    assert page == folder / "report.html"
    assert "<html" in page.read_text(encoding="utf-8")
    metrics = json.loads((folder / "evaluation" / "results.json").read_text())["metrics"]
    for name in ("psnr", "psnr_still", "lip_corr_zero_real", "head_motion"):
        assert math.isfinite(metrics[name]["value"]), name
    assert {"lip_corr", "lip_corr_zero"} <= set(
        metrics
    )  # without a value where so young a model keeps its lips still
    rows = json.loads((folder / "sweep" / "sweep.json").read_text())["rows"]
    assert [row["intensity"] for row in rows] == [0.0, 0.5, 1.0, 2.0]
    assert all(math.isfinite(row["head_motion"]["value"]) for row in rows)
    assert set(json.loads((folder / "times.json").read_text())) == {
        "data", "autoencoder", "statistics", "diffusion", "package", "evaluation", "sweep",
    }  # fmt: skip

    made = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path != page}
    for name in STEPS:
        monkeypatch.setattr(Demo, name, lambda self, name=name: pytest.fail(f"{name} again"))
    assert Demo(folder, workers=1, fast=True).run() == page
    assert {path: path.stat().st_mtime_ns for path in made} == made
    with pytest.raises(UserError, match="fast True instead of False"):
        Demo(folder, workers=2, fast=False).run()


@pytest.mark.parametrize("change", ["fast", "dataset", "version"])
def test_a_folder_made_with_other_settings_is_not_continued(tmp_path, steps, monkeypatch, change) -> None:
    Demo(tmp_path / "demo", 1, fast=True).run()
    Demo(tmp_path / "demo", 2, fast=True).run()
    assert steps == [*STEPS, *STEPS]  # nothing was made, so nothing is kept
    if change == "dataset":
        monkeypatch.setattr("datamodules.synthetic_faces.settings.VERSION", 0)
    if change == "version":
        monkeypatch.setattr("experiments.version.__version__", "0.0.0")
    with pytest.raises(UserError, match="other settings") as caught:
        Demo(tmp_path / "demo", 1, fast=change != "fast").run()
    assert "\n" not in str(caught.value)
    assert len(steps) == 2 * len(STEPS)


@pytest.mark.parametrize("name", ["runs", "data", "times.json"])
def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, steps, name: str) -> None:
    (tmp_path / name).mkdir() if name != "times.json" else (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=f"has {name} but no {MARKER_NAME}"):
        Demo(tmp_path, 1, fast=True).run()
    assert steps == []
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_only_a_demo_folder_loses_its_unfinished_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("experiments.train.run_training", lambda config: None)
    precious = tmp_path / "runs" / "autoencoder" / "last.ckpt"
    precious.parent.mkdir(parents=True)
    precious.write_text("weights")
    with pytest.raises(UserError, match=MARKER_NAME):
        Demo(tmp_path, 1, fast=True).train("autoencoder")
    assert precious.is_file()
    (tmp_path / MARKER_NAME).write_text("{}")
    Demo(tmp_path, 1, fast=True).train("autoencoder")
    assert not precious.exists()


def test_a_file_is_no_folder_for_the_demo(tmp_path: Path, steps) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        Demo(tmp_path / "file", 1, fast=True).run()
    assert steps == []
