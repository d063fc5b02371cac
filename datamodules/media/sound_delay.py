"""How late the sound of a video begins: what muxing put between the tracks, which every player keeps."""

from pathlib import Path

import av

from datamodules.errors import UserError
from datamodules.files import require_file
from datamodules.media.audio import seconds_after_pictures
from datamodules.media.containers import default_track, open_to_read
from datamodules.media.sound_decoding import DecodedSound


def sound_delay(path: str | Path) -> float:
    """Seconds from the first picture of a video to the first sample of its sound, negative where the sound begins earlier.

    `load_audio` puts so much silence before the sound, or cuts so much off.

    Raises:
        UserError: Missing or damaged file, or no sound track.
    """
    path = require_file(path, "sound")
    try:
        with open_to_read(path) as container:
            stream = default_track(container.streams.audio)
            if stream is None:
                raise UserError(f"{path}: has no sound track")
            start = DecodedSound(container, stream, path, strict=False).start
            return seconds_after_pictures(start, container, stream, path)
    except av.FFmpegError as error:
        raise UserError(f"{path}: cannot be read as sound ({error.strerror}); convert it to wav") from None
