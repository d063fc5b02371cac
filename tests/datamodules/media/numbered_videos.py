"""Videos whose pictures carry their number: ten blocks in a row, dark or bright, the lowest bit left."""

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from datamodules.media.video import VideoReader

HEIGHT, WIDTH, COUNT = 96, 160, 64
BITS = 10

PHOTO, FILM, NTSC = Fraction(15), Fraction(24000, 1001), Fraction(30000, 1001)
RATES = (Fraction(25), Fraction(30), Fraction(60), NTSC, FILM, PHOTO)

X264, X265 = "x264-params", "x265-params"
GROUPS: dict[str, dict[str, dict[str, str]]] = {
    # codec -> kind of group of pictures -> options of its encoder
    "libx264": {
        "open": {"g": "12", "bf": "3", X264: "open-gop=1:scenecut=0"},
        "closed": {"g": "12", "bf": "3", X264: "open-gop=0:scenecut=0"},
        "refresh": {"g": "12", "bf": "0", X264: "intra-refresh=1"},
        "single": {"g": "600", "bf": "2", X264: "scenecut=0"},
    },
    "libx265": {
        "open": {"preset": "veryfast", X265: "keyint=12:min-keyint=12:bframes=4:open-gop=1:log-level=none"},
        "closed": {"preset": "veryfast", X265: "keyint=12:min-keyint=12:open-gop=0:log-level=none"},
    },
    **{
        codec: {
            "open": {"g": "12", "bf": "2", "b": "4M"},
            "closed": {"g": "12", "bf": "2", "flags": "+cgop", "b": "4M", "sc_threshold": "1000000000"},
            "intra": {"g": "1", "b": "4M"},
        }
        for codec in ("mpeg1video", "mpeg2video", "mpeg4")
    },
    **{
        codec: {"closed": {"g": "12", "b": "4M"}, "single": {"g": "600", "b": "4M"}}
        for codec in ("wmv2", "msmpeg4", "flv")
    },
    "libvpx": {"closed": {"g": "12", "b": "2M", "auto-alt-ref": "1", "lag-in-frames": "10", "cpu-used": "8"}},
    "libvpx-vp9": {"closed": {"g": "12", "b": "2M", "lag-in-frames": "12", "cpu-used": "8"}},
    "libsvtav1": {"closed": {"g": "12", "crf": "15", "preset": "8"}},
    **{codec: {"intra": {}} for codec in ("mjpeg", "prores", "ffv1", "qtrle")},
}
CONTAINERS = {
    "libx264": ("mp4", "mov", "mkv", "ts", "m2ts", "flv", "avi", "3gp", "nut", "h264"),
    "libx265": ("mp4", "mkv", "ts", "hevc"),
    "mpeg1video": ("mpg", "m1v"),
    "mpeg2video": ("mpg", "vob", "ts", "mkv", "avi", "mxf", "m2v"),
    "mpeg4": ("mp4", "avi", "mkv"),
    "wmv2": ("wmv", "asf", "avi"),
    "msmpeg4": ("avi",),
    "flv": ("flv",),
    "libvpx": ("webm", "ogg", "avi", "ivf"),
    "libvpx-vp9": ("webm", "mp4", "ivf"),
    "libsvtav1": ("mp4", "webm"),
    "mjpeg": ("mov", "avi"),
    "prores": ("mov",),
    "ffv1": ("mkv", "avi"),
    "qtrle": ("mov",),
}
FORMATS = {"mpg": "mpeg", "m2ts": "mpegts", "m2v": "mpeg2video", "m1v": "mpeg1video"}
PIXELS = {"mjpeg": "yuvj420p", "prores": "yuv422p10le", "qtrle": "rgb24"}


def numbered(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Picture ``(H, W, 3)`` uint8; its corners tell how it is turned: the upper left one is red, the upper right green."""
    image = np.full((height, width, 3), 96, np.uint8)
    edges = np.linspace(0, width, BITS + 1).round().astype(int)
    for bit, (left, right) in enumerate(itertools.pairwise(edges)):
        image[height // 4 : -height // 4, left:right] = 235 if number >> bit & 1 else 20
    image[: height // 4, : width // 4] = (200, 30, 30)
    image[: height // 4, -width // 4 :] = (30, 180, 30)
    return image


def number_of(picture: np.ndarray) -> int:
    height, width = picture.shape[:2]
    row = picture[height // 2 - 3 : height // 2 + 3].mean((0, 2))
    return sum(int(row[int((bit + 0.5) * width / BITS)] > 128) << bit for bit in range(BITS))


def numbers_of(pictures: Iterable[np.ndarray]) -> list[int]:
    return [number_of(picture) for picture in pictures]


def encode(
    path: Path,
    codec: str,
    rate: Fraction,
    options: dict[str, str],
    pictures: Iterable[tuple[int, np.ndarray]],
    mux: dict[str, str] | None = None,
) -> Path:
    """Write pictures at their ticks of 1 / rate."""
    kind = FORMATS.get(path.suffix[1:])
    with av.open(str(path), "w", format=kind, options=mux or {}) as container:
        stream = None
        for tick, image in pictures:
            if stream is None:
                stream = container.add_stream(codec, rate=rate, options=options)
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = PIXELS.get(codec, "yuv420p")
                stream.codec_context.thread_count = 1
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = tick
            container.mux(stream.encode(frame))
        assert stream is not None
        container.mux(stream.encode(None))
    return path


def counted(count: int = COUNT) -> Iterator[tuple[int, np.ndarray]]:
    return ((number, numbered(number)) for number in range(count))


def remux(
    source: Path,
    target: Path,
    keep: Callable[[int], bool] = lambda number: True,
    back: int = 0,
    change: Callable[[bytes], bytes] = bytes,
    changed: Collection[int] = (),
) -> Path:
    """Copy the packets whose number ``keep`` likes, ``back`` frames at 25 fps earlier, some with other content."""
    unchanged = {"avoid_negative_ts": "disabled"} if back else {}
    with av.open(str(source)) as stored, av.open(str(target), "w", options=unchanged) as container:
        track = stored.streams.video[0]
        copy = container.add_stream_from_template(track, opaque=True)
        for number, packet in enumerate(stored.demux(track)):
            if number in changed:
                packet = altered(packet, change)
            if packet.size and keep(number):
                shift = int(Fraction(back, 25) / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                container.mux(packet)
    return target


def shredded(stored: bytes) -> bytes:
    """Bytes in the middle are others: FFmpeg paints over what it can't read, and says nothing."""
    middle = len(stored) // 2
    return stored[:middle] + np.random.default_rng(0).bytes(20) + stored[middle + 20 :]


def altered(packet: av.Packet, change: Callable[[bytes], bytes]) -> av.Packet:
    other = av.Packet(change(bytes(packet)))
    for name in ("pts", "dts", "duration", "time_base", "is_keyframe"):
        setattr(other, name, getattr(packet, name))
    return other


def check_starts(path: Path, numbers: Sequence[int], starts: Iterable[int]) -> None:
    """Strict reading from anywhere gives the pictures that were stored."""
    reader = VideoReader(path, strict=True)
    for start in starts:
        assert numbers_of(reader.frames(range(start, min(start + 3, len(reader))))) == list(
            numbers[start : start + 3]
        )
