"""Checkpoints of strangers take no more memory than their file has bytes, or are refused in one line."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_modules.checkpoints import load_network
from lightning_modules.generation.talking_head import TalkingHead
from tests.lightning_modules.test_hostile_folders import write_run


@pytest.fixture
def run(model: TalkingHead, tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", model, "autoencoder")


def test_a_checkpoint_unpacks_to_no_more_than_its_file(run: Path, watch: Any) -> None:
    checkpoint = run / "checkpoints" / "last.ckpt"
    with zipfile.ZipFile(checkpoint) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(checkpoint, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert "compressed" in watch.refused(lambda: load_network(run))
    with zipfile.ZipFile(checkpoint, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    load_network(run)
    checkpoint.write_bytes(b"before it" + checkpoint.read_bytes())
    assert watch.refused(lambda: load_network(run))
    torch.save({"state_dict": {}}, checkpoint, _use_new_zipfile_serialization=False)
    assert watch.refused(lambda: load_network(run))


class Allocated:
    """A pickle that takes memory when it is loaded."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return self.kind, (2**20,)


@pytest.mark.parametrize("kind", [bytearray, torch.UntypedStorage, torch.FloatTensor])
def test_a_checkpoint_calls_nothing_that_takes_memory(run: Path, watch: Any, kind: Any) -> None:
    content = {"state_dict": {}, "x": Allocated(kind)}
    torch.save(content, run / "checkpoints" / "last.ckpt")
    assert f"{kind.__name__}': it is no checkpoint" in watch.refused(lambda: load_network(run))


@pytest.mark.parametrize("place", ["basis", "optimizer"])
def test_no_tensor_of_a_checkpoint_is_larger_than_its_values(
    model: TalkingHead, run: Path, watch: Any, place: str
) -> None:
    state = {f"network.{name}": value for name, value in model.autoencoder.state_dict().items()}
    wide = torch.zeros(1).expand(1000, 1000)
    content: dict[str, Any] = {"state_dict": state}
    if place == "basis":
        state["basis.matrix"] = wide
    else:
        content["optimizer_states"] = [{"state": {0: {"exp_avg": wide}}}]
    torch.save(content, run / "checkpoints" / "last.ckpt")
    assert "share their values" in watch.refused(lambda: load_network(run))
