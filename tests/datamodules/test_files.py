"""Outputs: refused before any work where they can't be written."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from datamodules.errors import UserError
from datamodules.files import folder_lock, require_output_folder, whole_folder, whole_output, write_text


@pytest.mark.parametrize("name", [".", "new", "new/inside"])
def test_folders_that_are_there_or_can_be_made_are_accepted(tmp_path: Path, name: str) -> None:
    assert require_output_folder(tmp_path / name) == tmp_path / name
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/inside", "dangling"])
def test_a_file_in_the_way_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    wrong = "a link to nothing" if name == "dangling" else "a file, expected a folder"
    with pytest.raises(UserError, match=wrong) as caught:
        require_output_folder(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_folder_that_may_not_be_written_to_is_refused() -> None:
    with pytest.raises(UserError, match="the folder /proc may not be written to"):
        require_output_folder("/proc/new")  # its permissions say it may


def test_what_is_written_may_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    with whole_output(tmp_path / "plain.txt") as temporary:
        temporary.write_text("text")
    with whole_output(tmp_path / "private.txt") as temporary:
        temporary.write_text("text")
        temporary.chmod(0o600)
    (tmp_path / "usual.txt").write_text("text")
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_the_longest_names_can_be_written(tmp_path: Path) -> None:
    name = 85 * "\u6587"
    for path in (tmp_path / f"{name[1:]}.md", tmp_path / ("x" * 251 + ".mp4")):
        write_text(path, "whole")
        assert path.read_text() == "whole"
    with whole_folder(tmp_path / name) as temporary:
        write_text(temporary / "a", "whole")
    assert (tmp_path / name / "a").read_text() == "whole"
    assert len(list(tmp_path.iterdir())) == 3


def test_one_fills_a_folder_while_the_others_wait(tmp_path: Path) -> None:
    root, order = tmp_path / "new" / "data", []
    inside, leave = threading.Event(), threading.Event()

    def fill(name: str) -> None:
        with folder_lock(root):
            inside.set()
            leave.wait(60)
            order.append(name)

    threads = [threading.Thread(target=fill, args=(name,)) for name in ("first", "second")]
    threads[0].start()
    assert inside.wait(60)
    threads[1].start()
    threads[1].join(0.5)
    assert order == []  # the second waits
    leave.set()
    for thread in threads:
        thread.join(60)
    assert order == ["first", "second"]
    assert not root.exists()


def write_numpy(path: Path) -> None:
    path.write_text("half")
    np.zeros(10**6).tofile("/dev/full")


def write_torch(path: Path) -> None:
    path.write_text("half")
    with Path("/dev/full").open("wb") as file:
        torch.save(torch.zeros(10**6), file)


def write_safetensors(path: Path) -> None:
    path.write_text("half")
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("write", [write_numpy, write_torch, write_safetensors])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "output"
    path.write_text("before")
    with (
        pytest.raises(UserError, match=rf"{path}: can't be written \(No space left"),
        whole_output(path) as part,
    ):
        write(part)
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("output", "before")]
