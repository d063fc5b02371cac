"""results.json: what an evaluation found, in a form that stays the same whatever was evaluated."""

import json
import logging
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.errors import UserError
from datamodules.files import read_plain_json, require_output_folder, whole_output
from metrics.evaluation.protocol_names import PARTNER

log = logging.getLogger(__name__)
RESULTS = "results.json"
GALLERY = "gallery"
"""Of the folder of an evaluation: sheets and videos of its clips."""
PICTURES = ("sheet_*.png", "rows_*.mp4")
"""Its files."""
INTERVAL_KEYS = ("value", "low", "high", "n")
MAX_BYTES = 64 * 2**20
"""Of a file of results that is read."""
_FORMS: dict[str, tuple[type, ...]] = {
    "protocol": (dict,), "method": (str,), "run": (dict, type(None)), "metrics": (dict,), "clips": (list,), "missing": (list,)
}  # fmt: skip


def write_whole(path: Path, content: bytes | str) -> Path:
    """Write a file in one step: under a temporary name in the same folder (made if missing), then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_output(path) as temporary:
        # A file name that is no UTF-8 may stand in a text: it is shown with a mark instead of failing.
        temporary.write_bytes(content.encode(errors="replace") if isinstance(content, str) else content)
    return path


def plain(value: Any) -> Any:
    """``value`` with numbers that JSON does not know (NaN, infinity) as null, paths as text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item"):  # numpy and torch scalars
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any) -> Path:
    """Write plain JSON in one step."""
    return write_whole(path, json.dumps(plain(value), indent=1, allow_nan=False) + "\n")


def check_results(results: Any, what: str) -> dict[str, Any]:
    """Return ``results`` if they have the form of results.json.

    Raises:
        UserError: They have not; names ``what`` and the part that is wrong.
    """
    absent = [key for key in _FORMS if key not in results] if isinstance(results, dict) else ["everything"]
    if absent:
        raise UserError(f"{what}: is no result of 'ifmdm evaluate' (lacks {', '.join(absent)})")
    if wrong := [key for key, forms in _FORMS.items() if not isinstance(results[key], forms)]:
        raise UserError(f"{what}: is no result of 'ifmdm evaluate' ({', '.join(wrong)} of another form)")
    for name, interval in results["metrics"].items():
        if not isinstance(interval, dict) or any(key not in interval for key in INTERVAL_KEYS):
            raise UserError(f"{what}: metric '{name}' lacks one of {', '.join(INTERVAL_KEYS)}")
    return results


def machine_record() -> dict[str, Any]:
    """By which code and on which machine something was measured."""
    from experiments.run_folder import git_state, machine_facts
    from experiments.version import __version__

    commit, dirty = git_state(Path(__file__).resolve().parents[1])
    return {"version": __version__, "commit": commit, "dirty": dirty, "machine": machine_facts()}


def require_results_folder(path: str | Path) -> Path:
    """Return ``path`` if results can be written into that folder; call this before any work is done.

    Raises:
        UserError: Nothing may be written there, or a folder stands where the file shall be.
    """
    folder = require_output_folder(path)
    if (folder / RESULTS).is_dir():
        raise UserError(f"{folder / RESULTS}: is a folder, expected a file; choose another output")
    return folder


def write_results(path: Path, results: dict[str, Any]) -> Path:
    """Check the form of the results and write them in one step; what they take the place of is named in the log."""
    if path.is_file():
        try:
            before = read_results(path)
            log.info("%s: takes the place of results of '%s'", path, before["method"])
        except UserError:
            log.info("%s: takes the place of a file that was no result", path)
    return write_json(path, check_results(results, str(path)))


def require_judged(
    judged: int, missing: Sequence[Mapping[str, str]], where: str = "", hint: str = ""
) -> None:
    """Refuse to call it a result if not one clip could be judged.

    Raises:
        UserError: Nothing was judged; says ``where``, why the first clip was not, and a ``hint`` at what helps.
    """
    if judged:
        return
    known = [one for one in missing if one["clip"] != "*" and one["what"] != PARTNER]
    why = ""
    for first in sorted(known, key=lambda one: one["what"] != "all")[:1]:
        what = "" if first["what"] == "all" else f"{first['what']}: "
        why = f" ({first['clip']}: {what}{first['why']})"
    where, hint = where and f"{where}: ", hint and f"; {hint}"
    raise UserError(f"{where}not one clip could be judged{why}{hint}")


def has_values(metrics: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether anything at all is known of the method, its floors and the rows beside it left out."""
    from metrics.evaluation.registry import MEASURES

    merits = [name for name, one in MEASURES.items() if one.better != "none" and not one.base]
    return any(name in metrics and metrics[name]["value"] is not None for name in merits)


def replace_results(output: Path, results: dict[str, Any], gallery: Path | None = None) -> Path:
    """Write results and move the pictures of ``gallery`` beside them; pictures of what was there before go, others stay."""
    path, place = write_results(output / RESULTS, results), output / GALLERY
    for old in (one for pattern in PICTURES for one in place.glob(pattern)):
        old.unlink()
    if gallery is not None:
        place.mkdir(exist_ok=True)
        for picture in gallery.iterdir():
            shutil.move(picture, place / picture.name)
    elif place.is_dir() and not any(place.iterdir()):
        place.rmdir()
    return path


def log_results(path: Path, results: Mapping[str, Any]) -> None:
    """Say at the end what was found, what a reader must know, and how much was judged."""
    from metrics.evaluation.registry import MEASURES

    known = {name: one["value"] for name, one in results["metrics"].items() if one["value"] is not None}
    log.info("%s", "  ".join(f"{name} {known[name]:.4g}" for name in MEASURES if name in known))
    for note in results["notes"]:
        log.info("note: %s", note)
    whats = [entry["what"] for entry in results["missing"]]
    judged, alone = len(results["clips"]), whats.count(PARTNER)
    partners = f", {alone} without a partner" if alone else ""
    told = f"{judged} of {judged + whats.count('all')} clips judged{partners}"
    log.info("%s; %d entries under missing: %s", told, len(whats), path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of results, which may come from a stranger.

    Raises:
        UserError: Missing, over 64 MB, or not plain JSON as `parse_plain_json` wants it.
    """
    return read_plain_json(Path(path), MAX_BYTES)


def read_results(path: Path) -> dict[str, Any]:
    """Read and check results.json.

    Raises:
        UserError: Missing, not JSON, or of another form.
    """
    return check_results(read_json(path), str(path))
