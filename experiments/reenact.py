"""``ifmdm reenact``: one portrait moves as the face in a driving video does."""

import argparse
from pathlib import Path

from experiments.generate import add_model_argument, check_output, frame_portrait, pasted, write_result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words of ``ifmdm reenact``."""
    parser.description = (
        "Transfer the motion of a video to a portrait. Writes a 25 fps H.264 mp4 with the video's sound."
    )
    parser.add_argument("--image", type=Path, required=True, help="portrait, any picture format")
    parser.add_argument("--video", type=Path, required=True, help="driving video with one face")
    parser.add_argument("--output", type=Path, required=True, help="mp4 to write")
    add_model_argument(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--relative",
        dest="relative",
        action="store_true",
        default=True,
        help="add the change since the video's first frame to the portrait's own pose (default)",
    )
    how.add_argument("--absolute", dest="relative", action="store_false", help="take over the pose as it is")
    parser.add_argument("--paste-back", action="store_true", help="put the face back into the whole picture")


def run(args: argparse.Namespace) -> int:
    """Reenact as the command line says."""
    check_output(args.output)
    import numpy as np
    import torch

    from datamodules.audio import load_audio_native
    from datamodules.faces import crop_square, framing, require_face
    from datamodules.video import probe, read_image, read_video
    from lightning_modules.talking_head import TalkingHead

    image = read_image(args.image)
    has_sound = probe(args.video).has_audio
    driving = read_video(args.video)
    portrait, crop = frame_portrait(image, args.image)
    driving_crop = framing(require_face(driving[0], args.video))
    sound, rate = load_audio_native(args.video) if has_sound else (None, 16_000)
    model = TalkingHead.from_pretrained(args.model)
    source = model.prepare_source(portrait)
    cropped = np.stack([crop_square(frame, driving_crop, model.size) for frame in driving])
    motion = model.motion_of(torch.from_numpy(cropped).permute(0, 3, 1, 2).float() / 127.5 - 1)
    if args.relative:
        own = source.motion
        motion = (motion - motion[:1] + own).clamp(-1, 1)
    frames = model.render(source, motion)
    if args.paste_back:
        frames = pasted(frames, image, crop)
    write_result(args.output, frames, len(motion), sound, rate)
    return 0
