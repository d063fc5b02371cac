"""Checks of input files, outputs that appear only when they are whole, and the lock of a folder."""

import contextlib
import errno
import json
import logging
import math
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from datamodules.errors import UserError

log = logging.getLogger(__name__)


def require_file(path: str | Path, what: str, regular: bool = False) -> Path:
    """``path``, unless there is no such file, or an empty or unreadable one: then UserError.

    ``what`` it should hold stands in the message: "image", "video", "sound". ``regular``: no pipe or device is taken, either.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected a file with {what}; name the file inside it")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"{path}: no such {what} file ({error.strerror}); check the name") from None
    if regular and not path.is_file():
        raise UserError(
            f"{path}: is a pipe or a device, expected a file with {what}; write it to a file first"
        )
    if size == 0 and path.is_file():
        raise UserError(f"{path}: the {what} file is empty (0 bytes); get it again")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path}: the {what} file may not be read; check its permissions")
    return path


def require_folder(path: str | Path, what: str) -> Path:
    """``path`` if it is a folder, else UserError; ``what`` it should hold stands in the message: "videos"."""
    path = Path(path)
    if not path.is_dir():
        wrong = "is a file, expected a folder" if path.exists() else "no such folder"
        raise UserError(f"{path}: {wrong} of {what}; check the name")
    return path


def file_inside(folder: str | Path, name: str) -> Path:
    """The regular file ``name`` of a folder that may come from a stranger, and be reached by a link.

    Raises:
        UserError: Missing, no regular file, or a link that leads out of the folder.
    """
    path, root = Path(folder) / name, Path(folder).resolve()
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise UserError(f"{path}: missing; check the folder") from None
    if not real.is_relative_to(root):
        raise UserError(f"{path}: is a link that leads out of its folder; put the file itself there")
    if not real.is_file():
        raise UserError(f"{path}: is no regular file")
    return path


MAX_JSON_BYTES = 256 * 1024
MAX_JSON_DEPTH = 12
MAX_YAML_DEPTH = 24


def read_plain_json(path: Path, most_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Read a JSON file that may come from a stranger: an object as `parse_plain_json` gives it.

    Raises:
        UserError: Missing, over ``most_bytes``, or refused by `parse_plain_json`.
    """
    try:
        return parse_plain_json(read_bounded(path, most_bytes))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: can't be read ({error})") from None


def parse_plain_json(data: bytes | str) -> dict[str, Any]:
    """A JSON object of strings, finite numbers, bools, lists and objects.

    Raises:
        ValueError: Damaged, nested deeper than 12, a key twice, a number that is not finite or of more than 64 bits.
    """
    try:
        value = json.loads(data, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"no valid JSON: {error.msg}") from None
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    _check_plain(value, 1)
    return value


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """Content of a file; ValueError where it has more bytes, of which none is kept."""
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise ValueError(f"over {most_bytes // 1024} KB")
    return data


def parse_plain_yaml(data: bytes) -> Any:
    """Plain values of a YAML text; of wrong values nothing is built.

    Raises:
        ValueError: No YAML, nested deeper than 24, or with aliases, which can blow up a small file, or tags.
    """
    import yaml

    depth = 0
    try:
        for event in yaml.parse(data, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("holds aliases")
            if getattr(event, "tag", None) is not None:
                raise ValueError("holds tags")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_YAML_DEPTH:
                raise ValueError("nested too deeply")
        return yaml.safe_load(data)
    except (yaml.YAMLError, OverflowError) as error:
        raise ValueError(str(error)) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands there twice")
    return dict(pairs)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _check_plain(value: Any, depth: int) -> None:
    if depth > MAX_JSON_DEPTH:
        raise ValueError("nested too deeply")
    large = isinstance(value, int) and abs(value) >= 2**64
    if large or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError("a number is too large")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_plain(item, depth + 1)


def tensor_shapes(path: Path) -> dict[str, list[int]]:
    """Names and shapes in the header of a safetensors file, whose tensors are not read.

    Raises:
        UserError: The file is damaged.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118 - it is no mapping
    except Exception as error:  # safetensors' own error class and OSError alike
        raise UserError(f"{path}: damaged safetensors file ({' '.join(str(error).split())[:200]})") from error


def require_shapes(
    found: Mapping[str, Sequence[int]], wanted: Mapping[str, Sequence[int]], path: str | Path
) -> None:
    """Refuse tensors of a file, ``path``, that don't fit a network's, both as name -> shape.

    Raises:
        UserError: A name is missing or strange, or a shape differs.
    """
    for key in sorted(wanted.keys() | found.keys()):
        has, expected = (list(shapes[key]) if key in shapes else "missing" for shapes in (found, wanted))
        if has != expected:
            told = "no such weight" if expected == "missing" else f"expected {expected}"
            raise UserError(f"{path}: weights don't fit the network: {key!r:.80} is {has!s:.80}, {told}")


def require_short_name(path: str | Path) -> Path:
    """``path``, or UserError where no file can have such a name."""
    try:
        Path(path).lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UserError(f"{str(path)[:60]}...: the name is too long; choose another") from None
    return Path(path)


def require_output_folder(path: str | Path) -> Path:
    """``path`` if a folder is there, or can be made there; nothing is made yet, so call this before any work is done.

    Raises:
        UserError: It, or a part of the way to it, is a file, or nothing may be written there.
    """
    path = require_short_name(path)
    for place in (path, *path.absolute().parents):
        if place.is_dir():
            if not _takes_files(place):
                raise UserError(f"{path}: the folder {place} may not be written to; choose another output")
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


DISK_PROBLEMS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO, errno.ESTALE}
"""Errors of a disk that is full, may not be written to any more, or is lost."""


def disk_problem(error: BaseException | None) -> str | None:
    """What a disk says through an error, or one that it was raised from; None where it says nothing.

    Libraries tell it in their own ways: torch by a RuntimeError after the system's, safetensors in its text, NumPy by what it
    could write. Another error that comes up meanwhile is a bug of its own.
    """
    while error is not None:
        number = getattr(error, "errno", None)
        if found := re.search(r"\(os error (\d+)\)", str(error)):
            number = int(found[1])
        elif isinstance(error, OSError) and re.search(r"requested and \d+ written", str(error)):
            number = errno.ENOSPC
        if number in DISK_PROBLEMS:
            return os.strerror(number)
        error = error.__cause__ or (error.__context__ if type(error) is RuntimeError else None)
    return None


_UMASK = os.umask(0o022)
"""What the user takes away from new files' permissions; asked once, as asking sets it."""
os.umask(_UMASK)


def _unfinished(path: Path, suffix: str = "") -> Path:
    """A temporary name next to ``path``; it begins as that does unless it would be over 255 bytes long."""
    end = f".{uuid.uuid4().hex[:12]}.part{suffix}"
    name = f".{path.name.removesuffix(suffix)}{end}"
    return path.with_name(name if len(os.fsencode(name)) <= 255 else end)


@contextmanager
def whole_output(path: str | Path) -> Iterator[Path]:
    """Give a temporary name next to ``path``; rename it to ``path`` at the end, remove it on any failure.

    The temporary name keeps the suffix, as writers choose the format by it.

    Raises:
        UserError: ``path`` is a folder, its folder is missing or may not be written to, or the disk is full.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected the name of an output file")
    if not path.parent.is_dir():
        raise UserError(f"{path}: its folder does not exist; create {path.parent} first")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{path}: the folder {path.parent} may not be written to; choose another output")
    temporary = _unfinished(path, path.suffix)
    try:
        yield temporary
        if temporary.is_file():  # some writers, such as safetensors', let nobody else read what they make
            temporary.chmod(0o666 & ~_UMASK)
        os.replace(temporary, path)  # noqa: PTH105 - the plain call is the documented atomic one
    except Exception as error:
        problem = disk_problem(error) if path.parent.is_dir() else "its folder is gone"
        if problem is None or isinstance(error, UserError):
            raise
        raise UserError(f"{path}: can't be written ({problem}); what was there before is kept") from error
    finally:
        with contextlib.suppress(OSError):
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
    places = [one for one in (folder.parent, folder) if one.is_dir() and _takes_files(one)]
    if not places:
        yield
        return
    lock = FileLock(places[0] / f".{folder.name}.lock")
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        log.info("%s: another process fills this folder, waiting for it", folder)
        held = lock.acquire()
    with held:
        yield


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8 as `whole_output` does."""
    with whole_output(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Give a new folder next to ``path`` to write to; rename it to ``path`` at the end, remove it on any failure.

    Raises:
        UserError: ``path`` holds files already, or nothing may be written there, or the disk is full.
    """
    path = require_output_folder(path)
    if path.is_dir() and any(path.iterdir()):
        raise UserError(f"{path}: holds files already; choose another folder or empty it")
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _unfinished(path)
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(path)
    except Exception as error:
        if (problem := disk_problem(error)) is None:
            raise
        raise UserError(f"{path}: can't be written ({problem}); nothing is left of it") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
