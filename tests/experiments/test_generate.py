"""``ifmdm generate`` and ``reenact``: real input gives a video with its sound, wrong input one line and no file."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from datamodules.errors import UserError
from datamodules.faces import landmarks
from datamodules.faces.finding import FaceBox
from datamodules.faces.framing import SquareCrop, crop_square, framing
from datamodules.faces.landmarks import FaceMeasurements
from datamodules.media.audio import load_audio_native, write_wav
from datamodules.media.pictures import read_image, to_float
from datamodules.media.video import VideoReader, probe, read_video, write_video
from experiments import generate, reenact
from experiments.cli import Parser
from experiments.reenact import driving_motion, seen_motion
from lightning_modules.generation.reenactment import Reenactor
from lightning_modules.generation.retargeting import relative_motion
from lightning_modules.generation.talking_head import TalkingHead
from lightning_modules.model_folder import BY_WHISPER, DEFAULT_MODEL
from lightning_modules.networks.registry import build_network
from metrics.judges import whisper
from metrics.motion import MotionCurves
from tests.datamodules.media.numbered_videos import remux

FACE = FaceBox(50.0, 67.0, 206.0, 225.0)
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
    broken = np.where(np.arange(16_000) == 800, np.nan, 0)
    soundfile.write(folder / "nan.wav", broken, 16_000, subtype="FLOAT")
    tone = 0.1 * np.sin(np.arange(2 * 16_000) / 20).astype(np.float32)
    write_video(folder / "still.mp4", [head[0]] * 20, audio=tone[:4000])  # 0.25 s of sound, 0.8 s of pictures
    write_video(folder / "driving.mp4", head, audio=tone)  # 2 s of sound, 0.8 s of pictures
    whole = (folder / "driving.mp4").read_bytes()
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) // 3])
    return folder


def words(command: str, folder: Path, output: Path, model: Path, *more: str) -> list[str]:
    """Words of a command with good inputs; later ones take their place."""
    second = "--audio=speech.wav" if command == "generate" else "--video=driving.mp4"
    inputs = ["--image=portrait.png", second, *more]
    flags = ("--image=", "--audio=", "--video=")
    placed = [word.replace("=", f"={folder}/", 1) if word.startswith(flags) else word for word in inputs]
    return [*placed, "--output", str(output), "--model", str(model)]


def with_face(command: Any, arguments: list[str], face: FaceBox = FACE) -> int:
    """Run a command with a face that needs no detector."""
    parser = Parser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(arguments), lambda image, path: face)


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
    inputs, model_folder, tmp_path, refused, image, audio, named
):
    more = (f"--image={image}", f"--audio={audio}")
    refused(["generate", *words("generate", inputs, tmp_path / "out.mp4", model_folder, *more)], named)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "more",
    ["--intensity=-1", "--std=2", "--steps=0", "--steps=100000", "--guidance=nan", "--statistics=nonsense",
     "--model=no-such-model", "--model=", "--intensity=much", "--image=text.png", "--audio=missing.wav", "--help"],
)  # fmt: skip
def test_wrong_options_are_refused_without_torch(inputs, model_folder, tmp_path, more):
    wrong = words("generate", inputs, tmp_path / "out.mp4", model_folder)
    code = "import sys; from experiments.cli import main; status = main(sys.argv[1:]); "
    code += "sys.exit('torch was loaded' if 'torch' in sys.modules else status)"
    process = subprocess.run([sys.executable, "-c", code, "generate", *wrong, more], capture_output=True)
    assert process.returncode == (0 if more == "--help" else 2), process.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("output", "named"),
    [
        ("out.txt", "named *.mp4"),
        ("no/folder/out.mp4", "does not exist"),
        ("/proc/out.mp4", "may not be written to"),
    ],
)
def test_outputs_that_cannot_be_written_are_refused(inputs, model_folder, tmp_path, refused, output, named):
    refused(["generate", *words("generate", inputs, tmp_path / output, model_folder)], named)
    assert list(tmp_path.iterdir()) == []


def test_generate_writes_picture_and_sound_of_equal_length(inputs, model_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = Path("take:2.mp4")  # no protocol of FFmpeg
    assert with_face(generate, words("generate", inputs, output, model_folder)) == 0
    info = probe(output)
    assert (info.fps, info.frames, info.width, info.has_audio) == (25, 25, 32, True)
    sound, rate = load_audio_native(output)
    assert abs(len(sound) / rate - info.frames / 25) < 0.04


def test_paste_back_keeps_the_picture_around_the_face(inputs, model_folder, tmp_path):
    box = FaceBox(96 + 50.0, 48 + 67.0, 96 + 206.0, 48 + 225.0)
    output = tmp_path / "out.mp4"
    more = words("generate", inputs, output, model_folder, "--image=wide.png", "--paste-back")
    assert with_face(generate, more, box) == 0
    picture, frames = read_image(inputs / "wide.png").astype(float), read_video(output)
    assert frames.shape == (25, 352, 416, 3)
    difference = np.abs(frames - picture).mean(axis=(0, 3))
    around = np.ones(picture.shape[:2], bool)
    around[WIDE_FACE] = False
    assert difference[around].mean() < 4  # what the codec changes
    assert difference[WIDE_FACE].mean() > 20  # an untrained model's head


class CountingReader:
    """A video that tells how many of its pictures were read at a time."""

    def __init__(self, path: Path) -> None:
        self.video, self.read = VideoReader(path), []
        self.info, self.at_rate = self.video.info, self.video.at_rate

    def get(self, indices):
        self.read.append(len(indices))
        return self.video.get(indices)


@pytest.fixture(scope="module")
def motions(inputs, model_folder) -> dict[str, torch.Tensor]:
    """Motion ``(20, M)`` of the two videos."""
    model = TalkingHead.from_pretrained(model_folder)
    return {
        name: driving_motion(model, VideoReader(inputs / f"{name}.mp4"), framing(FACE), model.size)[0]
        for name in ("driving", "still")
    }


def test_the_motion_of_each_frame_is_taken_over(inputs, model_folder, motions):
    model = TalkingHead.from_pretrained(model_folder)
    frames = [crop_square(f, framing(FACE), 255) for f in read_video(inputs / "driving.mp4")]  # its own side
    wanted = model.motion_of(to_float(np.stack(frames)))
    moved = (wanted[0] - wanted[-1]).abs().max()
    assert moved > 0.001
    assert (motions["driving"] - wanted).abs().max() < 0.01 * moved
    assert (motions["driving"] - wanted.flip(0)).abs().max() > 0.9 * moved
    still = (motions["still"] - motions["still"][:1]).abs().max()
    assert still < 0.1 * moved


def test_the_driving_video_is_read_in_chunks(inputs, model_folder, motions):
    model, video = TalkingHead.from_pretrained(model_folder), CountingReader(inputs / "driving.mp4")
    in_parts, _ = driving_motion(model, video, framing(FACE), model.size, chunk_bytes=4 * 8 * 255 * 255 * 3)
    assert video.read == [8, 8, 4]
    torch.testing.assert_close(in_parts, motions["driving"])


def test_a_driver_that_is_the_portrait_is_read_as_the_portrait(inputs):
    torch.manual_seed(0)
    small = {"width": 16, "blocks": 1, "latent_dim": 32, "style_dim": 16, "painters": 0, "face_views": 8}
    model = Reenactor(build_network("warp_renderer", size=64, **small).eval())
    picture = read_image(inputs / "wide.png")
    box = FaceBox(96 + 50.0, 48 + 67.0, 96 + 206.0, 48 + 225.0)
    portrait, crop = generate.frame_portrait(picture, inputs / "wide.png", lambda image, path: box)
    source = model.prepare_source(portrait, 256)
    info = SimpleNamespace(height=picture.shape[0], width=picture.shape[1])
    video: Any = SimpleNamespace(
        info=info, at_rate=lambda: np.arange(3), get=lambda which: [picture] * len(which)
    )
    motion, _ = driving_motion(model, video, crop, source.image.shape[-1])
    torch.testing.assert_close(
        relative_motion(motion, source.motion), source.motion.expand(3, -1), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(motion, source.motion.expand(3, -1), atol=1e-5, rtol=0)
    coarse, _ = driving_motion(model, video, crop, model.size)
    assert (coarse - source.motion).abs().max() > 1e-3


def test_frames_of_a_driver_without_a_face_are_as_those_about_them():
    blink = np.array([0.1, 0.2, np.nan, 0.4, np.nan, np.nan])
    pose = np.where(np.isfinite(blink), np.arange(6.0), np.nan)[:, None].repeat(5, axis=1)
    slices = (slice(3), slice(3, 6))
    parts = [MotionCurves(pose[part, :3], 2 * blink[part], blink[part]) for part in slices]
    motion = torch.arange(12.0).reshape(6, 2)
    motion[[2, 4, 5]] = 99.0  # what is read of frames without a face
    bridged, seen = seen_motion(motion, parts, [pose[part] for part in slices])
    assert seen is not None
    np.testing.assert_allclose(seen.blink, [0.1, 0.2, 0.3, 0.4, 0.4, 0.4], rtol=1e-6)
    np.testing.assert_allclose(seen.lip_opening, 2 * seen.blink)
    np.testing.assert_allclose(seen.pose[:, 4], [0, 1, 2, 3, 3, 3])
    torch.testing.assert_close(bridged[:, 0], torch.tensor([0.0, 2.0, 4.0, 6.0, 6.0, 6.0]))
    rarely = seen_motion(motion[3:], parts[1:], [pose[3:]])  # in a third of its frames
    assert rarely[1] is None
    assert rarely[0] is not None
    torch.testing.assert_close(rarely[0], motion[3:])


def test_a_driver_is_looked_at_in_all_of_its_chunks(inputs, model_folder, monkeypatch):
    def look(frames):
        blink = np.asarray(frames).mean(axis=(1, 2, 3)).astype(np.float32) / 255
        face = np.random.default_rng(0).random((len(blink), 478, 3)).astype(np.float32)
        return FaceMeasurements(face, np.zeros((len(blink), 3), np.float32), blink)

    monkeypatch.setattr(landmarks, "measure_landmarks", look)
    model, video = TalkingHead.from_pretrained(model_folder), VideoReader(inputs / "driving.mp4")
    parts = driving_motion(
        model, video, framing(FACE), model.size, look=True, chunk_bytes=4 * 8 * 255 * 255 * 3
    )
    whole = driving_motion(model, video, framing(FACE), model.size, look=True)
    assert parts[1] is not None
    assert whole[1] is not None
    assert len(parts[1].blink) == len(whole[0]) == 20
    torch.testing.assert_close(parts[1].blink, whole[1].blink)
    assert driving_motion(model, video, framing(FACE), model.size)[1] is None


def test_lips_are_kept_of_a_retargeted_portrait_alone(inputs, tmp_path, refused):
    output = tmp_path / "v.mp4"
    words = ["--image", inputs / "wide.png", "--video", inputs / "driving.mp4", "--output", output]
    line = refused(["reenact", *words, "--relative", "--keep-lips"])
    assert "--keep-lips goes with --retarget: --relative keeps them" in line
    assert not output.exists()


@pytest.mark.parametrize("video", ["driving.mp4", "still.mp4"])
def test_reenact_keeps_sound_as_long_as_the_pictures(inputs, model_folder, tmp_path, video):
    """Relative and absolute motion differ: the portrait is not posed as the video's first frame."""
    made = []
    for how in (
        "--relative",
        "--absolute",
    ):  # its basis has no blocks, without which --retarget is --relative
        output = tmp_path / f"out{how}.mp4"
        given = words("reenact", inputs, output, model_folder, f"--video={video}", how)
        assert with_face(reenact, given) == 0
        made.append(read_video(output).astype(float))
        assert len(made[-1]) == 20
        sound, rate = load_audio_native(output)
        assert len(sound) == round(20 * rate / 25)
        assert np.abs(sound[: rate // 5]).max() > 0.05
    assert np.abs(made[0][0] - made[1][0]).max() > 0


def test_silent_speech_is_told(inputs, model_folder, tmp_path, caplog):
    caplog.set_level("INFO")
    for name, told in (("silent.wav", True), ("speech.wav", False)):
        caplog.clear()
        given = words("generate", inputs, tmp_path / "out.mp4", model_folder, f"--audio={name}")
        assert with_face(generate, given) == 0
        assert ("its sound is silence throughout" in caplog.text) == told


def test_a_speech_model_goes_with_a_model_that_is_named(inputs, tmp_path, refused):
    *given, _, _ = words("generate", inputs, tmp_path / "out.mp4", tmp_path)
    refused(["generate", *given, "--speech-model", "openai/whisper-tiny.en"], "needs --model, such as")
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize(("installed", "name"), [(True, BY_WHISPER), (False, DEFAULT_MODEL)])
def test_speech_is_heard_by_whisper_where_it_is_installed(
    inputs, model_folder, tmp_path, monkeypatch, installed, name
):
    asked = []
    small = TalkingHead.from_pretrained(model_folder)
    monkeypatch.setattr(whisper, "is_installed", lambda: installed)
    monkeypatch.setattr(TalkingHead, "from_pretrained", lambda *given: asked.append(given[0]) or small)
    *given, _, _ = words("generate", inputs, tmp_path / "out.mp4", model_folder)
    assert with_face(generate, given) == 0
    assert asked == [name]


def test_reenact_needs_no_speech_model(inputs, model_folder, tmp_path):
    model = shutil.copytree(model_folder, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"audio": {"name": "hubert"}}))
    assert with_face(reenact, words("reenact", inputs, tmp_path / "out.mp4", model)) == 0
    with pytest.raises(UserError, match="--speech-model"):
        with_face(generate, words("generate", inputs, tmp_path / "out.mp4", model))


def test_reenact_tells_of_damaged_pictures(inputs, model_folder, tmp_path, caplog):
    path = remux(
        inputs / "driving.mp4", tmp_path / "hurt.mp4", change=lambda stored: bytes(len(stored)), changed=[8]
    )
    given = words("reenact", inputs, tmp_path / "out.mp4", model_folder)
    assert with_face(reenact, [*given, f"--video={path}"]) == 0
    assert [f"{path}: 1 of 20 frames are damaged" in one for one in caplog.messages].count(True) == 1


@pytest.mark.parametrize("video", ["missing.mp4", "truncated.mp4", "text.png", "."])
def test_reenact_refuses_wrong_videos(inputs, model_folder, tmp_path, video, refused):
    wrong = words("reenact", inputs, tmp_path / "out.mp4", model_folder, f"--video={video}")
    refused(["reenact", *wrong], video if video != "." else "is a folder")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dark", [0, 1, 7, 12])
def test_reenact_begins_at_the_first_frame_with_a_face(inputs, model_folder, tmp_path, caplog, dark):
    """A fade from black is left out, of the sound as well."""
    head = read_video(inputs / "driving.mp4")
    faded = tmp_path / "faded.mp4"
    beep = np.zeros(20 * 640, np.float32)
    beep[14 * 640 :] = 0.3
    write_video(faded, np.concatenate([np.zeros_like(head[:dark]), head[dark:]]), audio=beep)

    def find_face(image: np.ndarray, path: Path) -> FaceBox:
        if image.mean() < 5:
            raise UserError(f"{path}: no face found")
        return FACE

    parser = Parser()
    reenact.add_arguments(parser)
    given = words("reenact", inputs, tmp_path / "out.mp4", model_folder)
    args = parser.parse_args([*given, "--video", str(faded)])
    with caplog.at_level("INFO"):
        assert reenact.run(args, find_face) == 0
    written = probe(tmp_path / "out.mp4")
    assert written.frames == 20 - dark
    sound, rate = load_audio_native(tmp_path / "out.mp4")
    begins = np.flatnonzero(np.abs(sound[:, 0]) > 0.1)[0] / rate
    assert begins == pytest.approx((14 - dark) * 0.04, abs=0.03)
    assert any(f"no face in the first {dark / 25:.2f} s" in one for one in caplog.messages) is (dark > 0)


def test_a_video_without_a_face_is_refused_for_its_first_frame(inputs):
    looked: list[float] = []

    def find_face(image: np.ndarray, path: Path) -> FaceBox:
        looked.append(image.mean())
        raise UserError(f"{path}: look {len(looked)}")

    with pytest.raises(UserError, match=r"driving\.mp4: look 1"):
        reenact.first_face(VideoReader(inputs / "driving.mp4"), find_face)
    assert len(looked) == 5  # every fifth frame of twenty, and the last


@pytest.mark.parametrize("command", [generate, reenact])
def test_the_choice_of_a_face_reaches_the_finder(inputs, model_folder, tmp_path, monkeypatch, command):
    asked = {}

    def require_face(image: np.ndarray, path: Path, which: str, what: str) -> FaceBox:
        asked[path.name] = (which, what)
        return FACE

    monkeypatch.setattr("datamodules.faces.finding.require_face", require_face)
    parser = Parser()
    command.add_arguments(parser)
    name = command.__name__.rpartition(".")[2]
    more = ["--face=right"] if command is generate else ["--face=2", "--video-face=left"]
    command.run(parser.parse_args([*words(name, inputs, tmp_path / "out.mp4", model_folder), *more]))
    of_reenact = {"portrait.png": ("2", "picture"), "driving.mp4": ("left", "video")}
    assert asked == ({"portrait.png": ("right", "picture")} if command is generate else of_reenact)
    for wrong in ("middle", "0", "-1", "²"):
        with pytest.raises(SystemExit):
            parser.parse_args([*words(name, inputs, tmp_path / "out.mp4", model_folder), f"--face={wrong}"])


def asked_size(sizes: list[int], size: int | None = None, paste_back: bool = True, side: float = 968) -> int:
    """`frame_size` of a model of these sizes for a portrait that fills a square of so many pixels."""
    renderer = torch.nn.Module()
    renderer.size, renderer.largest_factor = sizes[0], len(sizes)
    model = Reenactor(renderer)
    assert model.sizes == sizes
    args = SimpleNamespace(size=size, paste_back=paste_back, image=Path("a.png"))
    return generate.frame_size(model, args, SquareCrop(0, 0, side))


def test_an_enlarged_face_is_told(caplog):
    with caplog.at_level("INFO"):
        assert asked_size([128]) == asked_size([128], side=100) == 128
    assert caplog.messages == [
        "a.png: the model paints 128 pixels, its place in the picture has 968: the face will be softer"
    ]


def test_frames_have_256_pixels_where_the_model_can():
    for sizes, side in (([128, 256, 384, 512], 256), ([64, 128], 128), ([96, 192, 288], 288), ([512], 512)):
        assert asked_size(sizes, paste_back=False) == side
    for asked in (128, 0):  # a wrong one is the model's to refuse
        assert asked_size([128, 256], size=asked, paste_back=False) == asked


def test_a_face_is_put_back_at_the_size_of_its_place_where_the_model_can(caplog):
    several = [256, 512, 768, 1024]
    with caplog.at_level("INFO"):
        assert [asked_size(several, side=side) for side in (100, 256, 257, 800, 1100)] == [
            256,
            256,
            512,
            1024,
            1024,
        ]
        assert asked_size(several, paste_back=False) == 256
        assert asked_size(several, size=512, paste_back=False) == 512
    assert not caplog.messages
    with caplog.at_level("INFO"):
        asked_size(several, size=512)
    assert "paints 512 pixels" in caplog.text


def test_a_pipe_is_heard_once(inputs, model_folder, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    feeder = threading.Thread(
        target=lambda: pipe.write_bytes((inputs / "speech.wav").read_bytes()), daemon=True
    )
    feeder.start()
    given = words("generate", inputs, tmp_path / "take:1.mp4", model_folder)
    assert with_face(generate, [*given, "--audio", str(pipe)]) == 0
    feeder.join()
    assert probe(tmp_path / "take:1.mp4").frames == 25


def test_names_that_are_no_text_are_used_all_the_same(inputs, model_folder, tmp_path):
    video, output = (tmp_path / os.fsdecode(name) for name in (b"caf\xe9:1.mp4", b"\xff.mp4"))
    video.write_bytes((inputs / "driving.mp4").read_bytes())
    given = words("reenact", inputs, output, model_folder)
    assert with_face(reenact, [*given, "--video", str(video)]) == 0
    assert probe(output).frames == 20


def test_reenactment_retargets_unless_it_is_told_otherwise():
    parser = Parser()
    reenact.add_arguments(parser)
    words = ["--image", "a.png", "--video", "b.mp4", "--output", "c.mp4"]
    found = [
        parser.parse_args([*words, *more]).transfer
        for more in ([], ["--retarget"], ["--relative"], ["--absolute"])
    ]
    assert found == ["retarget", "retarget", "relative", "absolute"]
