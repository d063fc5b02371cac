"""Wrong files: each one clear line that names the file and the reason."""

import json
import os

import numpy as np
import pytest
import soundfile
from PIL import Image

from datamodules.clips.manifest import read_manifest
from datamodules.clips.phones import read_phones
from datamodules.clips.splits import read_splits
from datamodules.errors import UserError
from datamodules.media import audio, pictures, video
from datamodules.preparation.folder import folder_sources
from datamodules.preparation.settings import read_settings
from datamodules.preparation.voxceleb import read_utterance
from tests.datamodules.clips.test_manifest import record
from tests.datamodules.clips.test_phones import LONG, SHORT

FRAMES = np.random.default_rng(0).integers(0, 255, (40, 64, 64, 3), np.uint8)


def nothing(path):
    """Makes no file."""


def folder(path):
    path.mkdir()


YAML_BOMB = (
    "size: &l0 [1]\n" + "".join(f"a{n}: &l{n} [*l{n - 1}, *l{n - 1}]\n" for n in range(1, 40)) + "val: *l39\n"
)


def of_bytes(content):
    return lambda path: path.write_bytes(content)


text, garbage, zero_bytes = (
    of_bytes(content)
    for content in (b"this is no media file\n" * 50, np.random.default_rng(0).bytes(5000), b"")
)


def written(content):
    return lambda path: path.write_text(content, encoding="utf-8")


def manifest(path):
    return read_manifest(path.parent)


def identities(path):
    (path.parent / "raw").mkdir()
    (path.parent / "raw/a.mp4").write_bytes(b"x")
    return folder_sources(path.parent / "raw", path)


def image_of(width, height):
    return lambda path: Image.new("1", (width, height)).save(path)


def cut_image(path):
    Image.fromarray(FRAMES[0]).save(path)
    os.truncate(path, path.stat().st_size // 2)


def video_without_sound(path):
    video.write_video(path.with_suffix(".mp4"), FRAMES[:3])
    path.with_suffix(".mp4").rename(path)


def cut_video(share):
    def make(path):
        video.write_video(path, FRAMES, audio=np.sin(np.arange(25600)).astype(np.float32))
        os.truncate(path, int(path.stat().st_size * share))

    return make


def wav_of(samples):
    return lambda path: soundfile.write(path, np.asarray(samples, np.float32), 16000, subtype="FLOAT")


def refusal(read, path):
    """The error's message, which is one line with the file's whole name."""
    with pytest.raises(UserError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


WRONG = {
    pictures.read_image: [
        ("missing.png", nothing, "no such image file"), ("folder.png", folder, "is a folder"),
        ("empty.png", zero_bytes, "empty"), ("text.png", text, "not an image"),
        ("garbage.jpg", garbage, "not an image"), ("cut.png", cut_image, "damaged image"),
        ("cut.jpg", cut_image, "damaged image"), ("cut.webp", cut_image, "image"),
        ("cut.bmp", cut_image, "damaged image"), ("one.png", image_of(1, 1), "1 x 1 pixels"),
        ("line.png", image_of(4000, 3), "4000 x 3 pixels"), ("bomb.png", image_of(20_000, 10_000), "megapixels"),
        ("huge.png", image_of(10_000, 10_000), "10000 x 10000 pixels"),
        ("video.png", video_without_sound, "not an image"),
    ],
    video.read_video: [
        ("missing.mp4", nothing, "no such video file"), ("folder.mp4", folder, "is a folder"),
        ("empty.mp4", zero_bytes, "empty"), ("text.mp4", text, "cannot be read as video"),
        ("text.txt", text, "is no video"), ("garbage.mp4", garbage, "cannot be read as video"),
        ("head.mp4", cut_video(0.01), "cannot be read as video"), ("half.mp4", cut_video(0.5), "cut off after"),
        ("picture.png", image_of(64, 64), "is no video"), ("sound.wav", wav_of(np.zeros(1600)), "only sound"),
    ],
    audio.load_audio: [
        ("missing.wav", nothing, "no such sound file"), ("folder.wav", folder, "is a folder"),
        ("empty.wav", zero_bytes, "empty"), ("text.wav", text, "cannot be read as sound"),
        ("garbage.wav", garbage, "cannot be read as sound"), ("length_zero.wav", wav_of([]), "length zero"),
        ("nan.wav", wav_of([0.0, np.nan, 0.0]), "NaN"), ("infinite.wav", wav_of([0.0, np.inf, 0.0]), "infinite"),
        ("scale.wav", wav_of([0.0, 20000.0]), "expected -1..1"), ("half.mp4", cut_video(0.5), "cut off after"),
        ("silent.mp4", video_without_sound, "no sound track"),
    ],
    manifest: [
        ("manifest.jsonl", nothing, "no clip manifest"), ("manifest.jsonl", of_bytes(b"\n"), "lists no clips"),
        ("manifest.jsonl", of_bytes(b"\xff\xfe\x80"), "UTF-8"),
        ("manifest.jsonl", written(2 * (json.dumps(vars(record("a"))) + "\n")), "line 2: id 'a' occurs already in line 1"),
        *(("manifest.jsonl", written(line), "manifest.jsonl, line 1: ") for line in ("{", "[1, 2]", '{"id": "x"}', "\x00")),
    ],
    read_splits: [
        ("s.csv", nothing, "no such splits file"), ("s.csv", written("name,split\na,train\n"), "needs the columns"),
        ("s.csv", written("identity,split\na,training\n"), "splits are train, val, test"),
        ("s.csv", written("identity,split\na\n"), "splits are"),
        ("s.csv", written("identity,split\na,train\na,val\n"), "in two splits"),
        ("s.csv", of_bytes(b"identity,split\n\xff\xfe,train\n"), "no CSV"),
    ],
    identities: [
        ("i.csv", written("video,name\na.mp4,Ann\n"), "columns"), ("i.csv", written("video,identity\nz.mp4,Ann\n"), "z.mp4"),
        *(("i.csv", written(f"video,identity\n{line}\n"), "no identity") for line in ("a.mp4,", "a.mp4")),
        ("i.csv", written("video,identity\n./a.mp4,Ann\na.mp4,Bob\n"), "both Ann and Bob"),
    ],
    read_settings: [
        ("s.yaml", written("sise: 256"), "no setting is called sise"), ("s.yaml", written("size: big"), "expected a int"),
        ("s.yaml", written("require_sound: 1"), "expected a bool"), ("s.yaml", written("size: true"), "expected a int"),
        ("s.yaml", written("- 3"), "NAME: VALUE"), ("s.yaml", written("size: ["), "no YAML"),
        ("s.yaml", written(YAML_BOMB), "holds aliases"), ("s.yaml", written("size: " + "[" * 30 + "]" * 30), "nested too"),
        ("s.yaml", written("size: !!python/name:os.system"), "holds tags"), ("s.yaml", written(70_000 * "#"), "over 64 KB"),
        ("s.yaml", written(f"val: {10**400}"), "expected a float"), ("s.yaml", written("size: " + "a" * 999), "a int"),
    ],
    read_utterance: [
        ("u.txt", written(content), "get the file again")
        for content in ("", "FRAME X Y W H\n", "000001 1 2 3\n", "000001 1 2 3 nan\n", "000001 a b c d\n")
    ],
    read_phones: [
        ("a.TextGrid", zero_bytes, "empty"), ("a.TextGrid", written("hello"), "no head of a TextGrid"),
        ("a.TextGrid", of_bytes(b"\xe4\xf6\x00"), "UTF-8"), ("a.csv", of_bytes(b"\xe4\xf6\x00"), "UTF-8"),
        ("a.TextGrid", written(LONG[: LONG.index("AA1")]), "damaged TextGrid"),
        ("a.TextGrid", written(LONG.replace("size = 3", "size = 1e999")), "damaged TextGrid"),
        ("a.TextGrid", written(SHORT.replace("phones", "words")), "no tier named 'phones' among words"),
        ("a.TextGrid", written(SHORT.replace('0\n0.3\n"pʰ"', '0.5\n0.3\n"pʰ"')), "a phone from 0.5 to 0.3 s"),
        ("a.csv", written('start,end,phone\n0,1,"' + "a" * 140_000), "wants columns start,end,phone"),
        ("a.csv", written("from,to\n1,2\n"), "wants columns start,end,phone"),
        ("a.csv", written("start,end,phone\n1,x,p\n"), "wants columns"),
        ("a.csv", written("start,end,phone\n"), "no phone in it"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("read", "name", "make", "reason"), [(read, *one) for read, table in WRONG.items() for one in table]
)
def test_wrong_files(tmp_path, read, name, make, reason):
    make(tmp_path / name)
    assert reason in refusal(read, tmp_path / name)


def test_damage_in_the_middle_is_found_when_it_is_read(tmp_path, caplog):
    path = tmp_path / "a.mp4"
    video.write_video(path, FRAMES)
    os.truncate(path, path.stat().st_size - 8000)  # less than a quarter of a second
    reader = video.VideoReader(path, strict=True)
    assert reader.get([0]).shape == (1, 64, 64, 3)
    assert "damaged video" in refusal(lambda _: reader.get(range(len(reader))), path)
    assert not caplog.messages
    assert len(video.read_video(path)) == len(reader)
    assert ["1 of 37 frames are damaged" in one for one in caplog.messages] == [True]
