"""Checks of input files, outputs that appear only when they are whole, and the lock of a folder."""

import contextlib
import errno
import logging
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datamodules.errors import UserError

log = logging.getLogger(__name__)


def require_file(path: str | Path, what: str) -> Path:
    """Return ``path`` if it is a non-empty file.

    Args:
        path: A file that the user named.
        what: What it should hold, for the message: "image", "video", "sound".

    Raises:
        UserError: It is missing, a folder, empty or not readable.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected a file with {what}; name the file inside it")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"{path}: no such {what} file ({error.strerror}); check the name") from None
    if size == 0 and path.is_file():
        raise UserError(f"{path}: the {what} file is empty (0 bytes); get it again")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path}: the {what} file may not be read; check its permissions")
    return path


def require_folder(path: str | Path, what: str) -> Path:
    """Return ``path`` if it is a folder.

    Args:
        path: A folder that the user named.
        what: What it should hold, for the message: "videos".

    Raises:
        UserError: There is none.
    """
    path = Path(path)
    if not path.is_dir():
        wrong = "is a file, expected a folder" if path.exists() else "no such folder"
        raise UserError(f"{path}: {wrong} of {what}; check the name")
    return path


def require_output_folder(path: str | Path) -> Path:
    """Return ``path`` if a folder is there, or can be made there; nothing is made yet.

    Args:
        path: The folder that results shall go to; call this before any work is done.

    Raises:
        UserError: It, or a part of the way to it, is a file, or nothing may be written there.
    """
    path = Path(path)
    try:
        path.lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UserError(
                f"{str(path)[:60]}...: the name of the output folder is too long; choose another"
            ) from None
    for place in (path, *path.absolute().parents):
        if place.is_dir():
            if not _takes_files(place):
                raise UserError(
                    f"{path}: the folder {place} may not be written to; choose another output folder"
                )
            break
        if place.exists() or place.is_symlink():
            wrong = "a file, expected a folder for the output" if place.exists() else "a link to nothing"
            raise UserError(f"{path}: {'is' if place == path else f'{place} is'} {wrong}; choose another")
    return path


def _takes_files(folder: Path) -> bool:
    """Whether something can be made in a folder, tried out: permissions tell nothing of such as /proc."""
    try:
        tempfile.TemporaryDirectory(dir=folder, prefix=".ifmdm").cleanup()
    except OSError:
        return False
    return True


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


_UMASK = _umask()
"""What the user takes away from new files' permissions; asked once, as asking sets it."""


@contextmanager
def whole_output(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; rename it to ``path`` at the end, remove it on any failure.

    The temporary name keeps the suffix, as writers choose the format by it.

    Raises:
        UserError: ``path`` is a folder, or its folder is missing or may not be written to.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected the name of an output file")
    if not path.parent.is_dir():
        raise UserError(f"{path}: its folder does not exist; create {path.parent} first")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{path}: the folder {path.parent} may not be written to; choose another output")
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:12]}.part{path.suffix}")
    try:
        yield temporary
        if (
            temporary.is_file()
        ):  # some writers, such as that of safetensors, let nobody else read what they make
            temporary.chmod(0o666 & ~_UMASK)
        os.replace(temporary, path)  # noqa: PTH105 - the plain call is the documented atomic one
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def folder_lock(folder: str | Path) -> Iterator[None]:
    """Hold the lock of a folder: of several processes one fills it, the others wait and find it filled.

    The lock is the file ``.NAME.lock`` next to the folder, or in it where only that may be written; a folder that may not
    be written at all needs none. It is freed when its holder ends, however that happens.
    """
    from filelock import FileLock, Timeout

    folder = Path(folder).absolute()
    with contextlib.suppress(OSError):  # what can't be made is refused where it is used
        folder.parent.mkdir(parents=True, exist_ok=True)
    places = (folder.parent, folder)
    place = next((place for place in places if place.is_dir() and os.access(place, os.W_OK)), None)
    if place is None:
        yield
        return
    lock = FileLock(place / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%s: another process fills this folder, waiting for it", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        UserError: See ``whole_output``.
    """
    with whole_output(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
