"""``ifmdm generate`` and ``reenact``: real input gives a video with its sound, wrong input one line and no file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.faces import finding
from datamodules.faces.framing import crop_square, framing
from datamodules.media.audio import load_audio_native, write_wav
from datamodules.media.pictures import read_image
from datamodules.media.video import VideoReader, probe, read_video, write_video
from experiments.cli import main
from lightning_modules.generation.talking_head import TalkingHead

FACE = finding.FaceBox(50.0, 67.0, 206.0, 225.0, 1.0, "mediapipe")
"""Where framing puts the face in a picture of 256 x 256 pixels."""
WIDE_FACE = (slice(48, 304), slice(96, 352))
"""Where the portrait lies in the picture ``wide.png`` of 352 x 416 pixels."""


@pytest.fixture(scope="session")
def model_folder(build_model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    build_model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def inputs(tmp_path_factory) -> Path:
    """Good and wrong files: synthetic portraits, a head that turns, sound, and what users mistake for them."""
    from datamodules.synthetic_faces.identity import Identity
    from datamodules.synthetic_faces.motion.controls import Controls
    from datamodules.synthetic_faces.renderer import HeadRenderer

    folder = tmp_path_factory.mktemp("inputs")
    turning = Controls.neutral(20)
    turning["yaw"][:] = np.linspace(-20, 20, 20)
    head = HeadRenderer(Identity.sample(np.random.default_rng(0), "plain"), 256).render(turning).frames
    Image.fromarray(head[10]).save(folder / "portrait.png")
    wide = np.random.default_rng(0).integers(0, 255, (11, 13, 3), dtype=np.uint8).repeat(32, 0).repeat(32, 1)
    wide[WIDE_FACE] = head[10]
    Image.fromarray(wide).save(folder / "wide.png")
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
    tone = 0.1 * np.sin(np.arange(2 * 16_000) / 20).astype(np.float32)
    write_video(folder / "still.mp4", [head[0]] * 20, audio=tone[:4000])  # 0.25 s of sound, 0.8 s of pictures
    write_video(folder / "driving.mp4", head, audio=tone)  # 2 s of sound, 0.8 s of pictures
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
    errors = capfd.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("ifmdm: error:")
    assert named in errors[0]
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
    monkeypatch.setattr(finding, "find_faces", lambda image: [FACE])


def test_generate_writes_picture_and_sound_of_equal_length(inputs, model_folder, tmp_path, found_face):
    output = tmp_path / "out.mp4"
    assert generate(inputs, output, model_folder, "portrait.png", "speech.wav") == 0
    info = probe(output)
    assert (info.fps, info.frames, info.width, info.has_audio) == (25, 25, 32, True)
    sound, rate = load_audio_native(output)
    assert abs(len(sound) / rate - info.frames / 25) < 0.04


def test_paste_back_keeps_the_picture_around_the_face(inputs, model_folder, tmp_path, monkeypatch):
    box = finding.FaceBox(96 + 50.0, 48 + 67.0, 96 + 206.0, 48 + 225.0, 1.0, "mediapipe")
    monkeypatch.setattr(finding, "find_faces", lambda image: [box])
    output = tmp_path / "out.mp4"
    assert generate(inputs, output, model_folder, "wide.png", "speech.wav", "--paste-back") == 0
    picture, frames = read_image(inputs / "wide.png").astype(float), read_video(output)
    assert frames.shape == (25, 352, 416, 3)
    difference = np.abs(frames - picture).mean(axis=(0, 3))
    around = np.ones(picture.shape[:2], bool)
    around[WIDE_FACE] = False
    assert difference[around].mean() < 4  # what the codec changes
    assert difference[WIDE_FACE].mean() > 20  # an untrained model's head


def reenact(folder: Path, output: Path, model: Path, video: str, *more: str) -> int:
    words = ["reenact", "--image", str(folder / "portrait.png"), "--video", str(folder / video)]
    return main([*words, "--output", str(output), "--model", str(model), *more])


@pytest.fixture
def driven(monkeypatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For each video that is rendered: the portrait's own motion ``(1, M)`` and that of the frames ``(T, M)``."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    render = TalkingHead.render

    def watched(self, source, motion, *more):
        seen.append((source.motion, motion))
        return render(self, source, motion, *more)

    monkeypatch.setattr(TalkingHead, "render", watched)
    return seen


def test_reenact_takes_over_the_motion_of_each_frame(inputs, model_folder, tmp_path, found_face, driven):
    assert reenact(inputs, tmp_path / "out.mp4", model_folder, "driving.mp4", "--absolute") == 0
    assert probe(tmp_path / "out.mp4").frames == 20
    model = TalkingHead.from_pretrained(model_folder)
    frames = [crop_square(f, framing(FACE), model.size) for f in read_video(inputs / "driving.mp4")]
    wanted = model.motion_of(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1)
    moved = (wanted[0] - wanted[-1]).abs().max()
    assert moved > 0.001
    assert (driven[0][1] - wanted).abs().max() < 0.01 * moved
    assert (driven[0][1] - wanted.flip(0)).abs().max() > 0.9 * moved


def test_relative_motion_is_the_change_added_to_the_portraits_own(
    inputs, model_folder, tmp_path, found_face, driven
):
    for how in ("--relative", "--absolute"):
        assert reenact(inputs, tmp_path / "out.mp4", model_folder, "driving.mp4", how) == 0
    (own, relative), (_, absolute) = driven
    torch.testing.assert_close(relative[:1], own)
    torch.testing.assert_close(relative - relative[:1], absolute - absolute[:1], atol=1e-6, rtol=1e-4)
    moved = (absolute[0] - absolute[-1]).abs().max()
    assert (absolute[:1] - own).abs().max() > 0.2 * moved  # or the two could not be told apart


def test_a_still_driving_video_gives_a_still_portrait(inputs, model_folder, tmp_path, found_face, driven):
    for video in ("still.mp4", "driving.mp4"):
        assert reenact(inputs, tmp_path / "out.mp4", model_folder, video) == 0
    still, moving = ((motion - motion[:1]).abs().max() for _, motion in driven)
    assert still < 0.1 * moving


@pytest.mark.parametrize("video", ["driving.mp4", "still.mp4"])
def test_reenact_keeps_sound_as_long_as_the_pictures(inputs, model_folder, tmp_path, found_face, video):
    assert reenact(inputs, tmp_path / "out.mp4", model_folder, video) == 0
    sound, rate = load_audio_native(tmp_path / "out.mp4")
    assert len(sound) == round(20 * rate / 25)
    assert np.abs(sound[: rate // 5]).max() > 0.05


def test_reenact_reads_the_driving_video_in_chunks(
    inputs, model_folder, tmp_path, found_face, driven, monkeypatch
):
    from experiments import reenact as command

    read: list[int] = []
    get = VideoReader.get

    def counted(self, indices):
        read.append(len(indices))
        return get(self, indices)

    monkeypatch.setattr(VideoReader, "get", counted)
    assert reenact(inputs, tmp_path / "out.mp4", model_folder, "driving.mp4") == 0
    assert read == [1, 20]
    monkeypatch.setattr(command, "CHUNK_BYTES", 8 * 256 * 256 * 3)
    assert reenact(inputs, tmp_path / "out.mp4", model_folder, "driving.mp4") == 0
    assert read[2:] == [1, 8, 8, 4]
    torch.testing.assert_close(driven[0], driven[1])


@pytest.mark.parametrize("video", ["missing.mp4", "truncated.mp4", "text.png", "."])
def test_reenact_refuses_wrong_videos(inputs, model_folder, tmp_path, video, capfd):
    assert reenact(inputs, tmp_path / "out.mp4", model_folder, video) == 2
    errors = capfd.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("ifmdm: error:")
    assert list(tmp_path.iterdir()) == []
