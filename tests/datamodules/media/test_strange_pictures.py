"""Pictures from strangers: floats, many bits, much text; what is read is what they show."""

import io
import os
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import EpsImagePlugin, Image, PngImagePlugin

from datamodules.errors import UserError
from datamodules.media.pictures import read_image

COLOURS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
GREY = COLOURS[..., 0]


def of_12_bits(path: Path, pixels: np.ndarray = GREY) -> None:
    """A TIFF of packed 12-bit samples, two in three bytes."""
    first, second = (pixels.astype(int) * 16 + 9).reshape(-1, 2).T
    packed = (
        np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8).tobytes()
    )
    place, colours = 8 + 2 + 9 * 12 + 4, pixels[0, 0].size
    values = {256: 30, 257: 20, 258: 12, 259: 1, 262: colours // 2 + 1, 273: place, 277: colours, 278: 20}
    values |= {279: len(packed)}
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    path.write_bytes(struct.pack("<2sHIH", b"II", 42, 8, 9) + tags + bytes(4) + packed)


def tiff(pixels: np.ndarray, **options: object) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, pixels, **options)


def much_text(compressed: bool) -> Callable[[Path], None]:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("story", "once upon a time " * 200_000, zip=compressed)
    return lambda path: Image.fromarray(COLOURS).save(path, "PNG", pnginfo=texts)


def text_at_the_end(kind: bytes, head: bytes) -> Callable[[Path], None]:
    """A PNG with 10 MB of packed text behind its pixels."""
    chunk = kind + b"story\0" + head + zlib.compress(b"once " * 2_000_000)
    stored = io.BytesIO()
    Image.fromarray(COLOURS).save(stored, "PNG")
    picture, end = stored.getvalue()[:-12], stored.getvalue()[-12:]
    sizes = struct.pack(">I", len(chunk) - 4), struct.pack(">I", zlib.crc32(chunk))
    return lambda path: path.write_bytes(picture + sizes[0] + chunk + sizes[1] + end)


SHARES = COLOURS / np.float32(255)
READABLE = {
    "grey floats": (tiff(SHARES[..., 0]), GREY),
    "grey floats 0..255": (tiff(GREY.astype(np.float32)), GREY),
    "grey doubles": (tiff(SHARES[..., 0].astype(np.float64)), GREY),
    "half precision": (tiff(SHARES[..., 0].astype(np.float16)), GREY),
    "floats": (tiff(SHARES, photometric="rgb"), COLOURS),
    "floats 0..65535": (tiff(SHARES * 65535, photometric="rgb"), COLOURS),
    "planes of floats": (
        tiff(np.moveaxis(SHARES, -1, 0), photometric="rgb", planarconfig="separate"),
        COLOURS,
    ),
    "overshoot": (tiff(np.where(SHARES == 1, np.float32(1.3), SHARES), photometric="rgb"), COLOURS),
    "12 bits": (of_12_bits, GREY),
    "16 bits": (tiff(GREY.astype(np.uint16) * 257), GREY),
    "32 bits": (tiff(GREY.astype(np.uint32) * 16843009), GREY),
    "16 bits a colour": (tiff(COLOURS.astype(np.uint16) * 257, photometric="rgb"), COLOURS),
    "text": (much_text(compressed=False), COLOURS),
    "packed text": (much_text(compressed=True), COLOURS),
    "packed text at the end": (text_at_the_end(b"zTXt", b"\0"), COLOURS),
    "international text at the end": (text_at_the_end(b"iTXt", b"\1\0\0\0"), COLOURS),
}


@pytest.mark.parametrize("kind", READABLE)
def test_the_picture_is_read(tmp_path: Path, kind: str) -> None:
    write, shown = READABLE[kind]
    write(tmp_path / "a.tif")
    expected = shown if shown.ndim == 3 else np.repeat(shown[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.where(SHARES > 0.9, np.nan, SHARES), "finite"), (SHARES.astype(np.complex64), "finite"),
        (np.zeros((15_000, 15_000), np.float16), "15000 x 15000"), (np.zeros((8, 80), np.float64), "80 x 8"),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_told(tmp_path: Path, pixels: np.ndarray, reason: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb" if pixels.ndim == 3 else "minisblack")
    with pytest.raises(UserError, match=rf"a\.tif: .*{reason}"):
        read_image(tmp_path / "a.tif")


def test_colours_of_12_bits_are_told(tmp_path: Path) -> None:
    of_12_bits(tmp_path / "a.tif", COLOURS)
    with pytest.raises(UserError, match=r"a\.tif: .*12-bit.*save it with 8 bits a colour$"):
        read_image(tmp_path / "a.tif")


def test_cut_tiffs_are_told(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "whole.tif", SHARES, photometric="rgb")
    whole = (tmp_path / "whole.tif").read_bytes()
    for kept in range(4, len(whole), 97):
        (tmp_path / "a.tif").write_bytes(whole[:kept])
        with pytest.raises(UserError, match=r"a\.tif: "):
            read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("name", "brightness"), [("f16_float01.tif", 79.0), ("f16_big_text_chunk.png", 80.4)]
)
def test_awkward_files(shared: Path, name: str, brightness: float) -> None:
    path = shared / "data/awkward" / name
    if not path.exists():
        pytest.skip(f"needs {path}")
    image = read_image(path)
    assert image.shape == (284, 228, 3)
    assert image.mean() == pytest.approx(brightness, abs=0.1)


def test_no_picture_starts_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An EPS by the name of another format would be painted by Ghostscript."""
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("starts Ghostscript"))
    Image.fromarray(COLOURS).save(tmp_path / "a.jpg", "EPS")
    with pytest.raises(UserError, match=r"a\.jpg: is not an image"):
        read_image(tmp_path / "a.jpg")


def test_what_has_no_end_is_no_picture(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (Path("/dev/zero"), tmp_path / "pipe.jpg"):
        with pytest.raises(UserError, match="a pipe or a device"):
            read_image(path)
    with (tmp_path / "sparse.jpg").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(UserError, match="over 1024 MiB"):
        read_image(tmp_path / "sparse.jpg")


def test_only_the_head_of_what_is_no_picture_is_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse.jpg").open("wb") as file:
        file.truncate(2**29)
    tracemalloc.start()
    with pytest.raises(UserError, match="is not an image"):
        read_image(tmp_path / "sparse.jpg")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**26
