"""Every command once, one after the other, as somebody types them: from nothing to a page."""

import json
import math
import shutil
from pathlib import Path

import pytest

from datamodules.clips.manifest import read_manifest
from datamodules.media.video import VideoReader
from experiments.cli import COMMANDS, main


@pytest.mark.timeout(1500)  # five minutes on a slow core, more beside other tests
def test_every_command(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("INFO")
    folder, used = tmp_path / "a demo", set()

    def ifmdm(*words: object) -> None:
        used.add(words[0])
        assert main([str(word) for word in words]) == 0, capsys.readouterr().err

    ifmdm("demo", "--output", folder, "--fast", "--workers", 0)
    used |= {line.split()[2] for line in caplog.messages if line.strip().startswith("$ ifmdm")}
    portrait, speaks = folder / "portrait" / "portrait.png", folder / "portrait" / "portrait_speaks.mp4"
    assert len(VideoReader(speaks)) > 100
    assert caplog.text.index(f"see and hear it: {speaks}") < caplog.text.index("$ ifmdm train")
    metrics = json.loads((folder / "evaluation" / "results.json").read_text())["metrics"]
    for name in ("psnr", "psnr_still", "head_motion"):
        assert math.isfinite(metrics[name]["value"]), name
    rows = json.loads((folder / "sweep" / "sweep.json").read_text())["rows"]
    assert [row["value"] for row in rows] == [0, 0.5, 1, 2]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "What it learnt, and what not" in page

    run = folder / "runs" / "autoencoder"
    words = [
        f"autoencoder={run}",
        "data=folder",
        f"data.root={folder / 'data'}",
        f"data.latents={tmp_path / 'latents'}",
    ]
    ifmdm("encode", *words, "workers=1")
    ifmdm("reenact", "--image", portrait, "--video", speaks, "--output", tmp_path / "reenacted.mp4")
    assert len(VideoReader(tmp_path / "reenacted.mp4")) == len(VideoReader(speaks))
    (tmp_path / "videos").mkdir()
    clip = next(clip for clip in read_manifest(folder / "data") if clip.split == "test")
    shutil.copy(folder / "data" / clip.video, tmp_path / "videos" / f"{clip.id}.mp4")
    judged = tmp_path / "judged"
    ifmdm(
        "evaluate", "--videos", tmp_path / "videos", "--reference", folder / "data", "--method", "itself",
        "--protocol", "synthetic-v2", "--max-frames", 32, "--output", judged,
    )  # fmt: skip
    metrics = json.loads((judged / "results.json").read_text())["metrics"]
    assert metrics["head_motion"]["value"] == metrics["head_motion_real"]["value"]
    stages = [f"{stage}={folder / 'runs' / stage}" for stage in ("autoencoder", "statistics", "diffusion")]
    ifmdm(
        "ablate", "ablation=steps_2", "base=synthetic_tiny", *stages, f"data.root={folder / 'data'}", "control=none",
        "evaluation.clips=1", "evaluation.max_frames=32", "evaluation.gallery_clips=0", f"output={tmp_path / 'study'}",
    )  # fmt: skip
    table = json.loads((tmp_path / "study" / "ablations.json").read_text())
    assert [(row["row"], row["seeds"]) for row in table["rows"]] == [("full", [0]), ("steps_2", [0])]
    assert table["rows"][1]["measures"]["mouth_motion"]["difference"]["value"] is not None
    ifmdm("report", judged, folder / "sweep", "--output", tmp_path / "both.html")
    ifmdm("leaderboard", judged, folder / "evaluation", "--output", tmp_path / "board.html")
    ifmdm("assets", "list")
    assert "face_landmarker.task" in capsys.readouterr().out
    assert used == set(COMMANDS)
