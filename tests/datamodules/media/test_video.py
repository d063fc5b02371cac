"""Reading and writing pictures and video."""

import itertools
import multiprocessing
import pickle

import av
import numpy as np
import pytest
from PIL import Image

from datamodules.errors import UserError
from datamodules.media import pictures, video
from datamodules.media.audio import load_audio_native
from datamodules.media.clip_reading import ClipReader

CLIPS = {  # frames, fps, height, width, sound
    "french_30fps.mp4": (294, 30, 512, 512, True),
    "hdtf_wda_edmarkey.mp4": (200, 25, 512, 512, True),
    "hdtf_wda_katiehill.mp4": (200, 25, 512, 512, True),
    "interview_two_faces.mp4": (247, 25, 720, 1280, True),
    "mead_1080p_w040.mp4": (165, 25, 1080, 1920, True),
    "no_audio_portrait.mp4": (296, 30, 1280, 720, False),
    "portrait_hevc_beard.mp4": (247, 25, 1920, 1080, True),
    "stage_cuts_no_face.mp4": (275, 29.97, 360, 640, True),
    "syncnet_example.avi": (317, 25, 224, 224, True),
    "vfr_700.mp4": (135, 22.13, 700, 700, True),
}


def moving(frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth pictures, each different from the others."""
    t, y, x = np.mgrid[:frames, :height, :width]
    red, green = 128 + 100 * np.sin((x + 3 * t) / 15), 128 + 100 * np.cos((y + 2 * t) / 11)
    return np.stack([red, green, 40 + 5 * t % 200], -1).astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b) ** 2))))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    video.write_video(path, moving(60))
    return path


def test_the_same_pictures_give_the_same_bytes(tmp_path):
    noise = np.random.default_rng(0).normal(0, 6, (25, 64, 64, 3))
    frames = (moving(25, 64, 64) + noise).clip(0, 255).astype(np.uint8)
    written = set()
    for turn in range(30):
        scratch = np.full(1000 * (turn + 1) ** 2, turn, np.uint8)  # memory that the encoder finds used
        del scratch
        video.write_video(tmp_path / "a.mp4", frames)
        written.add((tmp_path / "a.mp4").read_bytes())
    assert len(written) == 1


def test_what_is_written_is_read_back(clip):
    info = video.probe(clip)
    assert info == video.VideoInfo(frames=60, fps=25.0, height=48, width=64, duration=2.4, has_audio=False)
    frames = video.read_video(clip)
    assert frames.shape == (60, 48, 64, 3)
    assert frames.dtype == np.uint8
    written = moving(60)
    for index, frame in enumerate(written):
        assert psnr(frames[index], frame) > 30
        assert psnr(frames[index], frame) > psnr(frames[index], written[index - 1])


@pytest.mark.parametrize("kind", [video.VideoReader, ClipReader])
def test_random_access_equals_reading_in_order(clip, kind):
    frames = video.read_video(clip)
    order = [59, 0, 31, 30, 30, 7]
    reader = kind(clip)
    np.testing.assert_array_equal(reader.get(order), frames[order])
    assert reader.get([]).shape == (0, 48, 64, 3)
    for index in (-1, 60):
        with pytest.raises(IndexError):
            reader.get([index])


def _third_frame(reader, queue):
    queue.put(reader.get([3]))


@pytest.mark.parametrize("kind", [video.VideoReader, ClipReader])
def test_reader_survives_pickling_and_forking(clip, kind):
    reader = kind(clip)
    wanted = reader.get([3])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader)).get([3]), wanted)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_third_frame, args=(reader, queue))
    process.start()
    np.testing.assert_array_equal(queue.get(timeout=30), wanted)
    process.join(timeout=30)
    assert process.exitcode == 0


def test_pyav_reads_what_decord_reads(clip):
    indices = [40, 2, 2, *range(59, -1, -1)]
    by_decord = ClipReader(clip)
    np.testing.assert_array_equal(by_decord.get(indices), video.VideoReader(clip).get(indices))
    assert by_decord._decord is not None


def test_file_is_laid_out_for_streaming_and_random_access(tmp_path):
    video.write_video(tmp_path / "a.mp4", moving(60), audio=np.zeros(38400, np.float32))
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert container.streams.audio[0].codec_context.name == "aac"
        packets = [one for one in container.demux(stream) if one.is_keyframe and one.size]
    assert {0.0, 1.0, 2.0} <= {float(packet.pts * stream.time_base) for packet in packets}


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 11000, 16000, 22050, 44100, 48000, 96000])
def test_sound_and_pictures_start_and_end_together(tmp_path, rate, channels):
    frames = 21
    wave = np.zeros((round(frames * rate / 25), channels), np.float32)
    click = len(wave) // 2
    wave[click : click + rate // 500] = 0.9  # 2 ms
    video.write_video(tmp_path / "a.mp4", moving(frames), audio=wave, sample_rate=rate)
    with av.open(str(tmp_path / "a.mp4")) as container:
        pictures, sound = container.streams.video[0], container.streams.audio[0]
        assert (pictures.start_time, sound.start_time) == (0, 0)
        assert float(pictures.duration * pictures.time_base) == pytest.approx(frames / 25, abs=1e-3)
        assert float(sound.duration * sound.time_base) == pytest.approx(frames / 25, abs=2e-3)
    read, read_rate = load_audio_native(tmp_path / "a.mp4")
    assert read.shape[1] == channels
    assert len(read) / read_rate == pytest.approx(frames / 25, abs=2e-3)
    energy = read[:, 0].astype(float) ** 2
    heard = (np.arange(len(read)) * energy).sum() / energy.sum() / read_rate
    assert heard == pytest.approx((click + rate / 1000) / rate, abs=0.004)


def test_surround_sound_becomes_mono(tmp_path):
    video.write_video(tmp_path / "a.mp4", moving(10), audio=np.full((6400, 6), 0.1, np.float32))
    assert load_audio_native(tmp_path / "a.mp4")[0].shape == (6400, 1)


def test_odd_sizes_are_padded_by_the_last_row_and_column(tmp_path):
    frames = moving(5, 33, 47)
    video.write_video(tmp_path / "a.mp4", iter(frames), crf=5)
    read = video.read_video(tmp_path / "a.mp4")
    assert read.shape == (5, 34, 48, 3)
    assert psnr(read[:, :33, :47], frames) > 30
    assert psnr(read[:, 33, :47], frames[:, 32]) > 28


def test_quality_setting_is_used(tmp_path):
    for crf in (10, 35):
        video.write_video(tmp_path / f"{crf}.mp4", moving(20), crf=crf)
    assert (tmp_path / "10.mp4").stat().st_size > 1.5 * (tmp_path / "35.mp4").stat().st_size


def failing_frames():
    yield from moving(3)
    raise RuntimeError("renderer failed")


@pytest.mark.parametrize(
    ("frames", "error"),
    [
        (failing_frames(), RuntimeError),
        (iter(()), ValueError),
        ([moving(1)[0], moving(1, 32, 32)[0]], ValueError),
        (moving(2).astype(np.float32), ValueError),
    ],
)
def test_failed_writing_leaves_the_old_file_and_nothing_else(tmp_path, frames, error):
    output = tmp_path / "a.mp4"
    output.write_bytes(b"old")
    with pytest.raises(error):
        video.write_video(output, frames)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert output.read_bytes() == b"old"


def test_outputs_that_cannot_be_written_are_told_early(tmp_path):
    for output in (tmp_path / "a.avi", tmp_path / "none" / "a.mp4", tmp_path):
        with pytest.raises(UserError, match=str(output)):
            video.write_video(output, moving(2))
    assert not list(tmp_path.iterdir())


def test_nearest_frames_agrees_with_search_over_all():
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.choice([0.033, 0.067], 80))
    times -= times[0]
    chosen = video.nearest_frames(times, times[-1] + 0.033)
    wanted = np.arange(len(chosen)) / 25
    least = np.abs(times[:, None] - wanted).min(0)
    np.testing.assert_allclose(np.abs(times[chosen] - wanted), least, atol=2e-6)
    assert (np.diff(chosen) >= 0).all()
    np.testing.assert_array_equal(video.nearest_frames(np.arange(200) / 25, 8.0), np.arange(200))
    twice, half = (video.nearest_frames(np.arange(200) / rate, 200 / rate) for rate in (50, 12.5))
    np.testing.assert_array_equal(twice, np.arange(0, 200, 2))
    np.testing.assert_array_equal(half[::2], np.arange(200))


def test_rotated_phone_video_comes_upright(clip, tmp_path):
    data = bytearray(clip.read_bytes())
    matrix = data.index(b"tkhd") + 44
    quarter_turn = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]
    data[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in quarter_turn)
    (tmp_path / "turned.mp4").write_bytes(data)
    info = video.probe(tmp_path / "turned.mp4")
    assert (info.height, info.width) == (64, 48)
    upright = np.rot90(video.read_video(clip), -1, axes=(1, 2))  # a quarter turn clockwise
    np.testing.assert_array_equal(video.read_video(tmp_path / "turned.mp4"), upright)


def decoded_in_order(path, frames):
    with av.open(str(path)) as container:
        decoded = itertools.islice(container.decode(video=0), frames)
        return [np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90) for frame in decoded]


@pytest.mark.parametrize("name", CLIPS)
def test_real_clips(shared, name):
    path = shared / "data" / "clips" / name
    frames, fps, height, width, sound = CLIPS[name]
    info = video.probe(path)
    assert (info.frames, info.height, info.width, info.has_audio) == (frames, height, width, sound)
    assert info.fps == pytest.approx(fps, abs=0.01)
    indices = [11, 0, 4]
    wanted = [decoded_in_order(path, 12)[index] for index in indices]
    for reader in (video.VideoReader(path), ClipReader(path)):
        np.testing.assert_array_equal(reader.get(indices), wanted)
    if height * width < 10**6:  # far from a key frame, large ones take seconds
        assert video.VideoReader(path).get([frames - 1]).shape == (1, height, width, 3)
    if sound:
        waveform, rate = load_audio_native(path)
        assert len(waveform) / rate == pytest.approx(info.duration, abs=0.1)


def test_real_clip_of_variable_rate_keeps_its_length(shared):
    frames = video.read_video(shared / "data" / "clips" / "vfr_700.mp4")
    assert frames.shape == (152, 700, 700, 3)  # 6.1 s


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    return moving(1, height, width)[0]


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "gif", "jpg"])
def test_image_formats(tmp_path, suffix):
    Image.fromarray(picture()).save(tmp_path / f"a.{suffix}")
    read = pictures.read_image(tmp_path / f"a.{suffix}")
    assert read.dtype == np.uint8
    assert psnr(read, picture()) > 24


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "YCbCr"])
def test_colour_modes(tmp_path, mode):
    image = Image.fromarray(picture()).convert("RGB" if mode in ("CMYK", "YCbCr", "P") else "RGBA")
    image.convert(mode).save(tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.png"))
    read = pictures.read_image(next(tmp_path.iterdir()))
    assert read.shape == (40, 60, 3)
    grey = picture().astype(float).mean()
    assert read.mean() == pytest.approx(grey, abs=25)


def test_16_bit_grey_keeps_its_range(tmp_path):
    ramp = np.linspace(0, 65535, 40 * 60).reshape(40, 60).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    read = pictures.read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(read[..., 0], ramp >> 8)


def test_transparency_lies_over_white(tmp_path):
    image = np.dstack([picture(), np.full((40, 60), 255, np.uint8)])
    image[:20, :, 3] = 0
    image[20:30, :, 3] = 128
    Image.fromarray(image).save(tmp_path / "a.png")
    read = pictures.read_image(tmp_path / "a.png")
    assert (read[:20] == 255).all()
    np.testing.assert_allclose(read[20:30], picture()[20:30] * (128 / 255) + 127, atol=1)
    np.testing.assert_array_equal(read[30:], picture()[30:])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    a, turned = picture(), picture().transpose(1, 0, 2)
    stored = [image[::rows, ::columns] for image, rows, columns in (
        (a, 1, 1), (a, 1, -1), (a, -1, -1), (a, -1, 1), (turned, 1, 1), (turned, -1, 1), (turned, -1, -1), (turned, 1, -1),
    )]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored[orientation - 1])).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(pictures.read_image(tmp_path / "a.png"), picture())
