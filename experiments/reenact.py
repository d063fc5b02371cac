"""``ifmdm reenact``: one portrait moves as the face in a driving video does."""

import argparse
import logging
from typing import TYPE_CHECKING

import numpy as np

from datamodules.batches import FPS
from datamodules.errors import UserError
from datamodules.files import require_file
from experiments.generate import (
    FaceFinder,
    add_places,
    check_output,
    face_choice,
    face_finder,
    frame_portrait,
    frame_size,
    own_side,
    rendered,
    write_result,
)
from lightning_modules.model_folder import DEFAULT_MODEL

if TYPE_CHECKING:
    from torch import Tensor

    from datamodules.faces.finding import FaceBox
    from datamodules.faces.framing import SquareCrop
    from datamodules.faces.landmarks import FaceMeasurements
    from datamodules.media.video import VideoReader
    from lightning_modules.generation.retargeting import SeenFace
    from lightning_modules.generation.talking_head import TalkingHead
    from lightning_modules.networks.base_renderer import SourceEncoding
    from metrics.motion import MotionCurves

log = logging.getLogger(__name__)
SEARCHED = 60 * FPS
"""Frames of the driving video that are searched for the first with a face."""
STRIDE = 5
"""Every so many-th of them is looked at, and those before it where there is a face."""
CHUNK_BYTES = 256 * 2**20
"""Decoded pictures of the driving video that are in memory at a time: 43 frames of 1080p."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words of ``ifmdm reenact``."""
    parser.description = (
        "Transfer the motion of a video to a portrait. Writes a 25 fps H.264 mp4 with the video's sound."
    )
    add_places(parser, "video", "driving video with one face", DEFAULT_MODEL)
    text = "which face of the video, as --face"
    parser.add_argument("--video-face", type=face_choice, default="largest", metavar="WHICH", help=text)
    how = parser.add_mutually_exclusive_group()
    text = (
        "add the change since the video's first frame to the portrait's own pose, as far as is seen; lips and lids from "
        "where both faces have them shut or at rest (default)"
    )
    how.add_argument("--retarget", dest="transfer", action="store_const", const="retarget", help=text)
    text = "add the change since the video's first frame, of lips and lids, too"
    how.add_argument("--relative", dest="transfer", action="store_const", const="relative", help=text)
    text = "take over the motion as it is"
    how.add_argument("--absolute", dest="transfer", action="store_const", const="absolute", help=text)
    parser.set_defaults(transfer="retarget")


def run(args: argparse.Namespace, find_face: FaceFinder | None = None) -> int:
    """Reenact as the command line says, with the faces that `require_face` or another finder finds."""
    # First what loads no torch, so that wrong words are refused at once.
    check_output(args.output, args.image, args.video)
    if args.keep_lips and args.transfer != "retarget":
        raise UserError(f"--keep-lips goes with --retarget: --{args.transfer} keeps them")
    from datamodules.media.pictures import read_image
    from lightning_modules.model_folder import resolve_model

    folder, image = resolve_model(args.model), read_image(args.image)
    require_file(args.video, "video", regular=True)
    from datamodules.faces.framing import framing
    from datamodules.media.audio import load_audio_native
    from datamodules.media.video import VideoReader
    from lightning_modules.generation.devices import inference_device
    from lightning_modules.generation.retargeting import relative_motion, retargeted_motion, turned_as_seen
    from lightning_modules.generation.talking_head import TalkingHead

    device, driving = inference_device(), VideoReader(args.video)
    portrait, crop = frame_portrait(image, args.image, find_face or face_finder(args.face))
    start, face = first_face(driving, find_face or face_finder(args.video_face, "video"))
    sound, rate = load_audio_native(args.video) if driving.info.has_audio else (None, 16_000)
    model = TalkingHead.from_pretrained(folder, hears=False).to(device)
    look = args.transfer == "retarget"
    shut = look and not args.keep_lips
    source = model.prepare_source(portrait, frame_size(model, args, crop), lids=True, shut_lips=shut)
    motion, seen = driving_motion(model, driving, framing(face), source.image.shape[-1], start, look)
    driving.warn_of_damage()
    if look:
        motion = retargeted_motion(motion, source.motion, model.basis, seen)
        if seen is not None and (turns := seen_turns(model, source)) is not None:
            motion = turned_as_seen(motion, source.motion, model.basis, seen.pose, turns)
    elif args.transfer == "relative":
        motion = relative_motion(motion, source.motion)
    if sound is not None:
        sound = fit_sound(sound[round(start * rate / FPS) :], rate, len(motion))
    frames = rendered(model, source, motion, (image, crop) if args.paste_back else None)
    write_result(args.output, frames, len(motion), sound, rate)
    return 0


def first_face(video: "VideoReader", find_face: FaceFinder) -> "tuple[int, FaceBox]":
    """The first frame at 25 fps, within the first minute, that a face is found in, and its box.

    Raises:
        UserError: There is none; why the first frame was refused.
    """
    refused: list[UserError] = []

    def look(picture: np.ndarray) -> "FaceBox | None":
        try:
            return find_face(picture, video.path)
        except UserError as error:
            refused.append(error)
            return None

    indices = video.at_rate()[:SEARCHED]
    waiting: list[np.ndarray] = []  # pictures up to the next that is looked at
    for number, picture in enumerate(video.frames(indices)):
        waiting.append(picture)
        if number % STRIDE and number + 1 < len(indices):
            continue
        if (face := look(picture)) is not None:
            found = ((place, look(one)) for place, one in enumerate(waiting[:-1], number + 1 - len(waiting)))
            start, face = next(((place, box) for place, box in found if box is not None), (number, face))
            if start:
                told = "%s: no face in the first %.2f s, which are left out"
                log.info(told, video.path, start / FPS)
            return start, face
        waiting.clear()
    raise refused[0]


def driving_motion(
    model: "TalkingHead",
    video: "VideoReader",
    crop: "SquareCrop",
    size: int,
    start: int = 0,
    look: bool = False,
    chunk_bytes: int = CHUNK_BYTES,
) -> "tuple[Tensor, SeenFace | None]":
    """Raw motion ``(T, M)`` of a video at 25 fps, and what the landmarker sees; few of its pictures are in memory at a time.

    Args:
        model: the talking head.
        video: the driving video.
        crop: where its face is, in all frames.
        size: of the portrait that is to move, one of the model's: the same picture is then read the same as both, but for
            lips that are drawn together.
        start: the frame to begin with.
        look: whether the landmarker looks, too; it tells nothing where it is not installed, or finds few faces.
        chunk_bytes: decoded pictures that are in memory at a time.
    """
    import torch

    from datamodules.assets import MissingAssetError
    from datamodules.faces.framing import crop_square
    from datamodules.faces.landmarks import MissingLibraryError, measure_landmarks
    from datamodules.media.pictures import to_float
    from metrics.judges.landmark_judge import curves_of

    indices = video.at_rate()[start:]
    side = own_side(crop)
    chunk = max(
        1, chunk_bytes // (3 * max(video.info.height * video.info.width, 4 * side**2))
    )  # cut out as float32
    parts: list[Tensor] = []
    curves: list[MotionCurves] = []
    poses: list[np.ndarray] = []
    for start in range(0, len(indices), chunk):
        pictures = video.get(indices[start : start + chunk])
        cropped = np.stack([crop_square(picture, crop, side) for picture in pictures])
        parts.append(model.motion_of(to_float(cropped), size=size))
        if look:
            try:
                seen = measure_landmarks(cropped)
                curves.append(curves_of(seen, side, side))
                poses.append(head_pose(seen))
            except (MissingAssetError, MissingLibraryError):
                look = False
    motion = torch.cat(parts)
    return seen_motion(motion, curves, poses) if look else (motion, None)


def seen_motion(
    motion: "Tensor", parts: "list[MotionCurves]", poses: list[np.ndarray]
) -> "tuple[Tensor, SeenFace | None]":
    """A driver's motion ``(T, M)`` and face, in frames where it isn't seen as in those about them.

    With a face in less than half of the frames motion stays as it is read, and the face is None.
    """
    import torch

    from lightning_modules.generation.retargeting import SeenFace

    lips, lids = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("lip_opening", "blink")
    )
    pose = np.concatenate(poses)
    known = np.flatnonzero(np.isfinite(lids))
    if len(known) < len(lids):
        told = "the driver's face is seen in %d of %d frames: %s"
        enough = 2 * len(known) >= len(lids)
        what = (
            "between them its motion is theirs" if enough else "motion is what the model reads of all of them"
        )
        log.warning(told, len(known), len(lids), what)
        if not enough:
            return motion, None

    def filled(curve: np.ndarray) -> "Tensor":
        return torch.from_numpy(np.interp(np.arange(len(curve)), known, curve[known])).float()

    def columns(curves: np.ndarray) -> "Tensor":
        return torch.stack([filled(column) for column in curves.T], dim=1)

    bridged = motion if len(known) == len(lids) else columns(motion.cpu().numpy()).to(motion)
    return bridged, SeenFace(filled(lips), filled(lids), columns(pose))


def head_pose(seen: "FaceMeasurements") -> np.ndarray:
    """Rotation in degrees and the middle of the landmarks in hundredths of the picture's side, ``(T, 5)``."""
    return np.concatenate([seen.rotation, 100 * seen.landmarks[..., :2].mean(axis=1)], axis=1)


def seen_turns(model: "TalkingHead", source: "SourceEncoding") -> "Tensor | None":
    """`head_pose` ``(2 h, 5)`` of a portrait moved by `trial_turns`.

    None without a block of the head, or where the landmarker sees no face in one of them: then it turns as it is read.
    """
    import torch

    from datamodules.faces.landmarks import measure_landmarks
    from lightning_modules.generation.retargeting import trial_turns

    if "head" not in model.basis.blocks:
        return None
    pose = head_pose(measure_landmarks(model.render(source, trial_turns(source.motion, model.basis))))
    if np.isfinite(pose).all():
        return torch.from_numpy(pose)
    log.info("no face is seen in the portrait once it turns: its head turns by what is read of the driver")
    return None


def fit_sound(sound: np.ndarray, rate: int, frames: int) -> np.ndarray:
    """Cut sound ``(S, C)``, or pad it with silence, to the length of so many frames at 25 fps."""
    length = round(frames * rate / FPS)
    return np.pad(sound[:length], ((0, max(0, length - len(sound))), (0, 0)))
