"""``ifmdm generate`` and ``reenact``: real input gives a video with its sound, wrong input one line and no file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.audio import load_audio_native, write_wav
from datamodules.video import probe, write_video
from experiments.cli import main


@pytest.fixture(scope="session")
def model_folder(build_model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    build_model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def inputs(tmp_path_factory) -> Path:
    """Good and wrong files: a synthetic portrait, one second of sound, and what users mistake for them."""
    from datamodules.synthetic_faces.controls import Controls
    from datamodules.synthetic_faces.identity import Identity
    from datamodules.synthetic_faces.renderer import HeadRenderer

    folder = tmp_path_factory.mktemp("inputs")
    head = (
        HeadRenderer(Identity.sample(np.random.default_rng(0), "plain"), 256)
        .render(Controls.neutral(1))
        .frames
    )
    Image.fromarray(head[0]).save(folder / "portrait.png")
    write_wav(folder / "speech.wav", 0.1 * np.sin(np.arange(16_000) / 20).astype(np.float32))
    Image.fromarray(np.full((200, 200, 3), 128, np.uint8)).save(folder / "no_face.png")
    Image.fromarray(np.zeros((1, 1, 3), np.uint8)).save(folder / "one_pixel.png")
    Image.new("1", (10_000, 10_000)).save(folder / "huge.png")
    (folder / "text.png").write_text("this is no picture")
    (folder / "empty.wav").write_bytes(b"")
    write_wav(folder / "silent.wav", np.zeros(160, np.float32))
    header = (folder / "silent.wav").read_bytes()[:44]
    (folder / "zero_length.wav").write_bytes(header[:40] + b"\0\0\0\0")
    import soundfile

    broken = np.zeros(16_000, np.float32)
    broken[800] = np.nan
    soundfile.write(folder / "nan.wav", broken, 16_000, subtype="FLOAT")
    write_video(folder / "driving.mp4", [head[0]] * 20)
    whole = (folder / "driving.mp4").read_bytes()
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) // 3])
    return folder


def generate(folder: Path, output: Path, model: Path, image: str, audio: str, *more: str) -> int:
    words = [
        "generate",
        "--image",
        str(folder / image),
        "--audio",
        str(folder / audio),
        "--output",
        str(output),
    ]
    return main([*words, "--model", str(model), *more])


@pytest.mark.parametrize(
    ("image", "audio", "named"),
    [
        ("missing.png", "speech.wav", "missing.png"),
        ("text.png", "speech.wav", "text.png"),
        ("no_face.png", "speech.wav", "no face"),
        ("one_pixel.png", "speech.wav", "one_pixel.png"),
        ("huge.png", "speech.wav", "huge.png"),
        (".", "speech.wav", "folder"),
        ("portrait.png", "missing.wav", "missing.wav"),
        ("portrait.png", "empty.wav", "empty.wav"),
        ("portrait.png", "zero_length.wav", "zero_length.wav"),
        ("portrait.png", "nan.wav", "nan.wav"),
        ("portrait.png", "truncated.mp4", "truncated.mp4"),
        ("portrait.png", ".", "folder"),
        ("portrait.png", "portrait.png", "portrait.png"),
    ],
)
def test_wrong_files_give_one_line_status_2_and_no_output(
    inputs, model_folder, tmp_path, capfd, image, audio, named
):
    assert generate(inputs, tmp_path / "out.mp4", model_folder, image, audio) == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("ifmdm: error:")]
    assert len(errors) == 1
    assert named in errors[0]
    assert "Traceback" not in errors[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "more",
    [
        ["--intensity", "-1"],
        ["--std", "2"],
        ["--steps", "0"],
        ["--statistics", "nonsense"],
        ["--model", "no-such-model"],
        ["--intensity", "much"],
    ],
)
def test_wrong_options_give_status_2_and_no_output(inputs, model_folder, tmp_path, found_face, more):
    assert generate(inputs, tmp_path / "out.mp4", model_folder, "portrait.png", "speech.wav", *more) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output", ["out.txt", "no/such/folder/out.mp4"])
def test_outputs_that_cannot_be_written_are_refused(inputs, model_folder, tmp_path, output):
    assert generate(inputs, tmp_path / output, model_folder, "portrait.png", "speech.wav") == 2
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def found_face(monkeypatch):
    """A face where framing puts it, so that the test needs no detector."""
    from datamodules import faces

    box = faces.FaceBox(50.0, 67.0, 206.0, 225.0, 1.0, "mediapipe")
    monkeypatch.setattr(faces, "find_faces", lambda image: [box])


def test_generate_writes_picture_and_sound_of_equal_length(inputs, model_folder, tmp_path, found_face):
    output = tmp_path / "out.mp4"
    assert generate(inputs, output, model_folder, "portrait.png", "speech.wav") == 0
    info = probe(output)
    assert (info.fps, info.frames, info.width, info.has_audio) == (25, 25, 32, True)
    sound, rate = load_audio_native(output)
    assert abs(len(sound) / rate - info.frames / 25) < 0.04


def test_paste_back_keeps_the_picture_around_the_face(inputs, model_folder, tmp_path, found_face):
    output = tmp_path / "out.mp4"
    assert generate(inputs, output, model_folder, "portrait.png", "speech.wav", "--paste-back") == 0
    assert probe(output).width == 256


@pytest.mark.parametrize("how", ["--relative", "--absolute"])
def test_reenact_follows_the_driving_video(inputs, model_folder, tmp_path, found_face, how):
    words = ["reenact", "--image", str(inputs / "portrait.png"), "--video", str(inputs / "driving.mp4")]
    output = tmp_path / "out.mp4"
    assert main([*words, "--output", str(output), "--model", str(model_folder), how]) == 0
    assert probe(output).frames == 20


@pytest.mark.parametrize("video", ["missing.mp4", "truncated.mp4", "text.png", "."])
def test_reenact_refuses_wrong_videos(inputs, model_folder, tmp_path, video, capfd):
    words = ["reenact", "--image", str(inputs / "portrait.png"), "--video", str(inputs / video)]
    assert main([*words, "--output", str(tmp_path / "out.mp4"), "--model", str(model_folder)]) == 2
    assert "ifmdm: error:" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
