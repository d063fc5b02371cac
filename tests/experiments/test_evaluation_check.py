"""``ifmdm evaluate --check``: one line for each clip, status 0 only if all can be judged; and flags of ``--sources``."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from datamodules.media.audio import load_audio, write_wav
from datamodules.media.sound_delay import sound_delay
from datamodules.media.video import write_video
from experiments import evaluation_check
from experiments.cli import main

FRAMES = 50
SPEECH = np.random.default_rng(0).normal(0, 0.1, FRAMES * 640).astype(np.float32)


def picture(frames: int = FRAMES, width: int = 64) -> np.ndarray:
    return np.random.default_rng(1).integers(40, 255, (frames, 64, width, 3)).astype(np.uint8)


@pytest.fixture(autouse=True)
def faces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every picture that is not black shows a face."""
    monkeypatch.setattr(evaluation_check, "find_faces", lambda image: [1] if image.max() > 20 else [])


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Two people's portraits, speech, real clips, and a method's videos of them: fine as they are."""
    found = {name: tmp_path / name for name in ("videos", "sources", "reference")}
    for folder in found.values():
        folder.mkdir()
    for name in ("anna", "ben"):
        Image.fromarray(picture(1)[0]).save(found["sources"] / f"{name}.png")
        write_wav(found["sources"] / f"{name}.wav", SPEECH)
        for kind in ("videos", "reference"):
            write_video(found[kind] / f"{name}.mp4", picture(), audio=SPEECH)
    return found


def delayed(path: Path, seconds: float) -> None:
    """Mux the file's sound again so much later."""
    copy = path.with_name("copy.mp4")
    with av.open(str(path)) as source, av.open(str(copy), "w") as target:
        streams = {one: target.add_stream_from_template(one) for one in source.streams}
        for packet in source.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "audio":
                moved = round(seconds / packet.time_base)
                packet.pts, packet.dts = packet.pts + moved, packet.dts + moved
            packet.stream = streams[packet.stream]
            target.mux(packet)
    copy.replace(path)


@pytest.mark.parametrize("against", ["sources", "reference"])
def test_folders_that_are_fine(folders, against, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    delayed(folders["videos"] / "ben.mp4", 0.2)
    assert (
        main(
            ["evaluate", "--videos", str(folders["videos"]), f"--{against}", str(folders[against]), "--check"]
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "anna: fine (50 frames, 25 fps, 64x64)"
    late = sound_delay(folders["videos"] / "ben.mp4")
    assert late == pytest.approx(0.2, abs=0.07)  # less the lead-in of AAC, which is heard as silence now
    assert lines[1] == f"ben: fine (50 frames, 25 fps, 64x64, sound {1000 * late:+.0f} ms)"
    assert not load_audio(folders["videos"] / "ben.mp4")[: round(16000 * late) - 40].any()
    assert sorted(tmp_path.rglob("*")) == before  # nothing is judged or written


def alone(folders: dict[str, Path]) -> None:
    (folders["videos"] / "ben.mp4").rename(folders["videos"] / "bob.mp4")


def short(folders: dict[str, Path]) -> None:
    write_video(folders["videos"] / "ben.mp4", picture(20), audio=SPEECH[: 20 * 640])


def damaged(folders: dict[str, Path]) -> None:
    (folders["videos"] / "ben.mp4").write_bytes(b"no video")


def black(folders: dict[str, Path]) -> None:
    write_video(folders["videos"] / "ben.mp4", 0 * picture(), audio=SPEECH)


def silent(folders: dict[str, Path]) -> None:
    for kind in ("videos", "reference"):
        write_video(folders[kind] / "ben.mp4", picture())
    (folders["sources"] / "ben.wav").unlink()


@pytest.mark.parametrize("against", ["sources", "reference"])
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (alone, "no video of this stem"),
        (short, "20 frames"),
        (damaged, "ben.mp4"),
        (black, "no face found in 10 of 10 frames"),
        (silent, "no sound track"),
    ],
)
def test_what_cannot_be_judged_is_one_line(folders, against, spoil, told, refused, capfd):
    spoil(folders)
    words = ["evaluate", "--videos", folders["videos"], f"--{against}", folders[against], "--check"]
    assert main([str(word) for word in words]) == 2
    lines = capfd.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines if "can't be judged" in line] == (
        ["bob", "ben"] if spoil is alone else ["ben"]
    )
    (line,) = [line for line in lines if line.startswith("ben: can't")]
    assert told in line
    assert any(line.startswith("anna: fine") for line in lines)
    refused(words, "can't be judged by every measure")


def test_another_shape_is_told_where_frames_are_compared(folders, refused, capfd):
    write_video(folders["videos"] / "ben.mp4", picture(width=96), audio=SPEECH)
    words = ["evaluate", "--videos", folders["videos"], "--check"]
    assert main([str(word) for word in [*words, "--sources", folders["sources"]]]) == 0
    refused([*words, "--reference", folders["reference"]], "1 of 2")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--sources", "sources"], "give --videos and --method"),
        (["--videos", "videos", "--sources", "sources"], "give --method"),
        (["--videos", "videos", "--sources", "sources", "--method", "m", "--reference", "reference"], "--reference"),
        (["--videos", "videos", "--sources", "sources", "--method", "m", "--seeds"], "--seeds"),
        (["--videos", "videos", "--sources", "sources", "--method", "m", "--protocol", "synthetic-v2"], "--protocol"),
        (["--videos", "videos", "--sources", "nowhere", "--method", "m"], "nowhere: no such folder"),
        (["--videos", "videos", "--sources", "videos", "--method", "m"], "holds no portraits"),
        (["--videos", "videos", "--reference", "reference", "--method", "m", "--speakers", "away"], "away: no such folder"),
    ],
)  # fmt: skip
def test_flags_that_make_no_sense(folders, flags, told, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(["evaluate", *flags], told)
    assert not (tmp_path / "results").exists()
