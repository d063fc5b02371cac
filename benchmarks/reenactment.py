"""What portraits keep and take over when recorded people move them: ``ifmdm reenact``, judged by MediaPipe and MobileFaceNet.

Run from the repository's root: ``python benchmarks/reenactment.py --images PORTRAIT... --videos DRIVER... [--size 512]``.
Each driver moves each portrait, or, without portraits, its own first frame. Identity and fine detail are held against the
portrait, motion against the driver's; a blink of the driver counts as followed where lids are seen to shut.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from printing import markdown_table, one_line_errors

from datamodules.faces.framing import crop_square, framing
from datamodules.media.pictures import read_image, to_pixels
from datamodules.media.video import VideoReader, read_video
from experiments.cli import run_command
from experiments.generate import face_finder, frame_portrait, own_side
from experiments.pictures import contact_sheet, spread
from experiments.reenact import first_face
from metrics.identity import identity_similarity
from metrics.judges.face_embedder import FaceEmbedder
from metrics.judges.landmark_judge import LandmarkJudge
from metrics.motion import MotionCurves, blink_starts, blinks_followed, head_motion, mouth_motion
from metrics.sharpness import fine_detail

COLUMNS = (
    "identity",
    "fine detail",
    "head motion",
    "of driver's",
    "mouth motion",
    "of driver's",
    "blinks followed",
)


def tensor(frames: np.ndarray) -> torch.Tensor:
    """Frames ``(T, H, W, 3)`` as ``(T, 3, H, W)``."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


def driving_frames(path: Path) -> np.ndarray:
    """The driver's face at 25 fps, ``(T, S, S, 3)`` uint8, as `ifmdm reenact` cuts it out."""
    video = VideoReader(path)
    start, face = first_face(video, face_finder("largest", "video"))
    crop = framing(face)
    pictures = video.frames(video.at_rate()[start:])
    return np.stack([crop_square(picture, crop, own_side(crop)) for picture in pictures])


def figures(
    frames: np.ndarray,
    portrait: np.ndarray,
    driver: MotionCurves,
    judge: LandmarkJudge,
    embedder: FaceEmbedder,
) -> tuple[list[float], int]:
    """The ``COLUMNS`` of one video, and how many blinks there were to follow."""
    (curves, points), (_, places) = judge.look(frames), judge.look(portrait[None])
    own, shown = tensor(portrait[None]), tensor(frames)
    alike = identity_similarity(embedder.embed(own, places)[0], embedder.embed(shown, points))
    detail = fine_detail(shown, points, own, places)
    head, mouth = head_motion(curves.rotation), mouth_motion(curves.lip_opening)
    shares = head / head_motion(driver.rotation), mouth / mouth_motion(driver.lip_opening)
    followed = blinks_followed(curves.blink, driver.blink)
    return [float(np.nanmean(alike)), detail, head, shares[0], mouth, shares[1], followed], len(
        blink_starts(driver.blink)
    )


def main() -> None:
    """Prints a table: a line for each pair, and their mean."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, nargs="+", default=[])
    parser.add_argument("--videos", type=Path, nargs="+", required=True)
    parser.add_argument("--model", default="synthetic-256")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--transfer", choices=["retarget", "relative", "absolute"], default="retarget")
    parser.add_argument("--sheet", type=Path, help="PNG with eight frames of each pair, and the drivers'")
    args = parser.parse_args()
    judge, embedder, finder = LandmarkJudge(), FaceEmbedder(), face_finder("largest")
    portraits = {
        path: to_pixels(frame_portrait(read_image(path), path, finder)[0][None])[0] for path in args.images
    }
    rows: list[list[str]] = []
    values: list[list[float]] = []
    counts: list[int] = []
    pictures: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        for video in args.videos:
            driving = driving_frames(video)
            driver = judge.measure(driving)
            pictures[video.stem] = spread(driving, 8)
            moved = portraits
            if not portraits:
                own = Path(folder) / f"{video.stem}.png"
                Image.fromarray(driving[0]).save(own)
                moved = {own: driving[0]}
            for image, portrait in moved.items():
                output = Path(folder) / "moved.mp4"
                words = ["--image", str(image), "--video", str(video), "--output", str(output)]
                run_command(
                    ["reenact", *words, "--model", args.model, "--size", str(args.size), f"--{args.transfer}"]
                )
                frames = read_video(output)
                found, blinks = figures(frames, portrait, driver, judge, embedder)
                values.append(found)
                counts.append(blinks)
                pictures[f"{image.stem} by {video.stem}"] = spread(frames, 8)
                rows.append([f"{image.stem} by {video.stem}", *texts(found), str(blinks)])
    known = np.array(values)
    mean = [float(np.mean(column[np.isfinite(column)])) for column in known.T[:-1]]
    followed = float(np.nansum(known[:, -1] * counts) / max(sum(counts), 1))
    print(
        markdown_table(["", *COLUMNS, "of"], [*rows, ["mean", *texts([*mean, followed]), str(sum(counts))]])
    )
    if args.sheet:
        contact_sheet(pictures, args.sheet, tile=192)


def texts(values: list[float]) -> list[str]:
    """Figures of a line."""
    return ["–" if np.isnan(value) else f"{value:.3g}" for value in values]


if __name__ == "__main__":
    one_line_errors(main)
