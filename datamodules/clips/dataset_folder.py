"""The folder of a prepared dataset, and the settings that it keeps in ``dataset.json``."""

import json
from pathlib import Path
from typing import Any

from datamodules.errors import UserError
from datamodules.files import MAX_JSON_BYTES, parse_plain_json, read_bounded, write_text

SETTINGS_NAME = "dataset.json"


def read_dataset_settings(folder: Path) -> dict[str, Any] | None:
    """The settings that a folder was made with; None where it says none, UserError where they are damaged."""
    path = folder / SETTINGS_NAME
    if not path.is_file():
        return None
    try:
        return parse_plain_json(read_bounded(path, MAX_JSON_BYTES))
    except ValueError as error:
        raise UserError(
            f"{path}: not valid JSON ({error}); remove the folder or choose another --output"
        ) from error


def make_dataset_folder(folder: Path, settings: dict[str, Any], *inner: str) -> None:
    """Make the folder with ``clips`` and the folders ``inner`` where they are not there, and write the settings.

    Raises:
        UserError: The folder is a file or cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file, expected a folder for the dataset; choose another --output")
    try:
        for name in ("clips", *inner):
            (folder / name).mkdir(parents=True, exist_ok=True)
        write_text(folder / SETTINGS_NAME, json.dumps(settings, indent=2, sort_keys=True) + "\n")
    except OSError as error:
        told = f"{folder}: the folder cannot be created ({error.strerror}); choose another --output"
        raise UserError(told) from error
