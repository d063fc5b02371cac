"""``ifmdm generate``: one portrait and speech -> talking-head mp4."""

import argparse
import functools
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datamodules.errors import UserError
from datamodules.files import require_file, require_output_folder, require_short_name
from lightning_modules.model_folder import BY_WHISPER, DEFAULT_MODEL

if TYPE_CHECKING:
    from torch import Tensor

    from datamodules.faces.finding import FaceBox
    from datamodules.faces.framing import SquareCrop
    from lightning_modules.generation.talking_head import TalkingHead
    from lightning_modules.networks.base_renderer import SourceEncoding

FaceFinder = Callable[[np.ndarray, Path], "FaceBox"]
"""Gives the face of a picture ``(H, W, 3)`` uint8, or raises UserError; the path is for messages."""
log = logging.getLogger(__name__)
SILENT = 1e-4
"""Level, -80 dB of full scale, below which nothing is heard."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words of ``ifmdm generate``."""
    parser.description = (
        "Animate one portrait with speech. Writes a 25 fps H.264 mp4 with the original sound."
    )
    default = f"{BY_WHISPER} where ifmdm[whisper] is installed, else {DEFAULT_MODEL}"
    add_places(parser, "audio", "speech, any sound or video file with sound", None, default)
    flag = parser.add_argument
    text = (
        "wav2vec2, HuBERT or Whisper model that the model hears by: a folder, or a hub name, which is downloaded "
        "(needs --model; default: the folder 'audio' in the model folder, or the package of ifmdm[whisper])"
    )
    flag("--speech-model", metavar="DIR|NAME", help=text)
    text = "how much head and body move; 0 = at rest (default 1)"
    flag("--intensity", type=float, default=1.0, help=text)
    text = (
        "what --intensity scales: the statistics that motion is generated from (default where the model follows "
        "them), or the generated motion"
    )
    flag("--scaling", choices=("motion", "statistics"), help=text)
    flag("--mouth-intensity", type=float, default=1.0, help="how much the mouth moves (default 1)")
    text = "how much lids move (default 1); below 1 blinks stay half open, 0 = as in the portrait"
    flag("--eyes-intensity", type=float, default=1.0, help=text)
    text = "motion statistics: estimated (default), none, source, previous, or a .npz file with mean and std"
    flag("--statistics", default="estimated", help=text)
    text = (
        "replace the std of all motion, lips and lids included, by this quantile (0..1) of the training data's; "
        "below 0.2 nobody blinks"
    )
    flag("--std", type=float, metavar="QUANTILE", help=text)
    flag("--steps", type=int, help="sampler steps (default: the model's)")
    flag("--guidance", type=float, help="scale of the audio guidance, 1 = off (default: the model's)")
    flag(
        "--seed",
        type=int,
        default=0,
        help="of the random motion, together with the speech: two speeches move a head in two ways (default 0)",
    )


def default_model() -> str:
    """Name of the shipped model that ``generate`` takes: by Whisper where that is installed, else by log-mel."""
    from metrics.judges import whisper

    name = BY_WHISPER if whisper.is_installed() else DEFAULT_MODEL
    log.info("speaks by %s", name)
    return name


def face_choice(text: str) -> str:
    """Which of several faces, as `select_face` takes it.

    Raises:
        ArgumentTypeError: It is none of these words, nor a number.
    """
    if text not in ("left", "right", "largest") and not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is neither left, right, largest nor a number from 1")
    return text


def add_places(
    parser: argparse.ArgumentParser, driver: str, what: str, model: str | None, told: str | None = None
) -> None:
    """Flags of all commands that use a trained model.

    Args:
        parser: gets the flags.
        driver: name of the flag for the file that moves the portrait.
        what: what that file is.
        model: which is taken where none is named; None: the command chooses.
        told: how the help says that, if not by its name.
    """
    flag = parser.add_argument
    flag("--image", type=Path, required=True, help="portrait, such as JPEG, PNG or WebP")
    flag(f"--{driver}", type=Path, required=True, help=what)
    flag("--output", type=Path, required=True, help="mp4 to write")
    text = f"model folder or name of a shipped model (default: {told or model})"
    flag("--model", default=model, help=text)
    text = "which face of the portrait: left, right, largest (default) or a number, counted from the left"
    flag("--face", type=face_choice, default="largest", metavar="WHICH", help=text)
    text = "side of the frames in pixels (default: 256, or the model's largest where that is less)"
    flag("--size", type=int, help=text)
    flag("--paste-back", action="store_true", help="put the face back into the whole picture")
    text = "leave a portrait's open lips open; else they are drawn over its teeth, to speak from there"
    flag("--keep-lips", action="store_true", help=text)


def run(args: argparse.Namespace, find_face: FaceFinder | None = None) -> int:
    """Generate as the command line says, with the face that `require_face` or another finder finds."""
    # First what loads no torch, so that wrong words are refused at once.
    check_output(args.output, args.image, args.audio)
    from datamodules.media.pictures import read_image
    from lightning_modules.generation.options import GenerationOptions
    from lightning_modules.model_folder import resolve_model

    options = GenerationOptions(
        intensity=args.intensity,
        scaling=args.scaling,
        mouth_intensity=args.mouth_intensity,
        eyes_intensity=args.eyes_intensity,
        statistics=args.statistics,
        std_quantile=args.std,
        steps=args.steps,
        guidance=args.guidance,
        seed=args.seed,
    )
    if args.model is None and args.speech_model is not None:
        raise UserError(f"--speech-model needs --model, such as --model {BY_WHISPER}")
    folder = None if args.model is None else resolve_model(args.model)
    image = read_image(args.image)
    require_file(args.audio, "sound")
    from datamodules.media.audio import load_audio_native, to_speech
    from lightning_modules.generation.devices import inference_device
    from lightning_modules.generation.talking_head import TalkingHead

    device = inference_device()
    sound, rate = load_audio_native(args.audio)
    waveform = to_speech(sound, rate, args.audio)
    if np.abs(waveform).max() < SILENT:
        log.info("%s: its sound is silence throughout: nobody will speak", args.audio)
    portrait, crop = frame_portrait(image, args.image, find_face or face_finder(args.face))
    model = TalkingHead.from_pretrained(default_model() if folder is None else folder, args.speech_model).to(
        device
    )
    size = frame_size(model, args, crop)
    source = model.prepare_source(portrait, size, lids=True, shut_lips=not args.keep_lips)
    motion = model.generate_motion(source, waveform, options)
    frames = rendered(model, source, motion, (image, crop) if args.paste_back else None)
    write_result(args.output, frames, len(motion), sound, rate)
    return 0


def face_finder(which: str, what: str = "picture") -> FaceFinder:
    """`require_face` for one of several faces; messages call the file ``what``."""
    from datamodules.faces.finding import require_face

    return functools.partial(require_face, which=which, what=what)


def check_output(path: Path, *inputs: Path) -> None:
    """Refuse an output that can't be written, or is one of the inputs, before any work is done.

    Raises:
        UserError: not an .mp4 name, too long a name, a folder, an input, or its folder doesn't exist or takes no files.
    """
    require_short_name(path)
    if path.suffix.lower() != ".mp4":
        raise UserError(f"{path}: the output must be named *.mp4")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name an .mp4 file in it")
    require_output_folder(path.parent)
    if not path.parent.is_dir():
        raise UserError(f"{path}: its folder does not exist; create {path.parent} first")
    for given in inputs:
        if path.exists() and given.exists() and path.samefile(given):
            raise UserError(f"{path}: is an input, which the output would replace; choose another output")


def frame_portrait(image: np.ndarray, path: Path, find_face: FaceFinder) -> "tuple[Tensor, SquareCrop]":
    """Find the face and crop it by the one framing rule.

    Args:
        image: uint8 ``(H, W, 3)``.
        path: for messages.
        find_face: finds the face.

    Returns:
        The portrait ``(3, N, N)`` float32 in [-1, 1], at the crop's own size but at most 1024, and the crop.

    Raises:
        UserError: no face.
    """
    from datamodules.faces.framing import crop_square, framing
    from datamodules.media.pictures import to_float

    crop = framing(find_face(image, path))
    return to_float(crop_square(image, crop, own_side(crop))), crop


def own_side(crop: "SquareCrop") -> int:
    """Side in pixels at which a face is cut out of a picture: the crop's own, but at most 1024."""
    return min(1024, max(16, round(crop.side)))


def frame_size(model: "TalkingHead", args: argparse.Namespace, crop: "SquareCrop") -> int:
    """Side of the frames: as asked for, or the model's usual one; for the place in the picture that they are put back into.

    Tells the reader if frames must be enlarged for that.
    """
    size = args.size
    if size is None:
        size = model.size_for(crop.side) if args.paste_back else model.usual_size
    if args.paste_back and size in model.sizes and crop.side > 1.1 * size:
        told = "%s: the model paints %d pixels, its place in the picture has %.0f: the face will be softer"
        log.info(told, args.image, size, crop.side)
    return size


def rendered(
    model: "TalkingHead",
    source: "SourceEncoding",
    motion: "Tensor",
    back: "tuple[np.ndarray, SquareCrop] | None" = None,
) -> Iterable[np.ndarray]:
    """Frames uint8 ``(H, W, 3)`` of a portrait in motion ``(T, M)``.

    With a whole picture and the place that the portrait was cut from they are put back there, the background untouched where
    the model tells the person from it.
    """
    from datamodules.faces.framing import paste_back

    if back is None:
        return model.render(source, motion)
    return (paste_back(frame, *back, cover) for frame, cover in model.render_covers(source, motion))


def write_result(
    path: Path, frames: Iterable[np.ndarray], count: int, sound: np.ndarray | None, rate: int
) -> None:
    """Write frames and sound to an mp4, with progress; the file appears when it is whole.

    Args:
        path: the mp4.
        frames: uint8 ``(H, W, 3)`` each.
        count: how many.
        sound: ``(S, C)``, or None.
        rate: of the sound, in Hz.
    """
    from datamodules.media.video import write_video
    from datamodules.progress import track

    write_video(path, track(frames, count, "rendering"), audio=sound, sample_rate=rate)
    log.info("%s: %d frames, %.2f s", path, count, count / 25)
