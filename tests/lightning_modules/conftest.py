"""How tests of the stages train; a watch over what the folders of strangers make a program do."""

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from datamodules.batches import CONTEXT, WINDOW, MotionWindowBatch
from datamodules.errors import UserError
from lightning_modules.generation.talking_head import TalkingHead

ACTS = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")
TOKEN = "hf_secret_of_the_user"


class Bomb:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


class Watch:
    """Sees connections, processes and opened files by an audit hook of Python; nothing has to be replaced for it.

    Attributes:
        outside: A folder of the user's beside the stranger's; what is read or made there is noticed.
    """

    def __init__(self, outside: Path) -> None:
        self.outside = outside
        self.seen: list[tuple[str, str]] = []
        for name in ("config.json", "config.yaml", "network.json", "model.safetensors", "last.ckpt"):
            (outside / name).write_text("a secret")

    @property
    def bomb(self) -> Any:
        """A pickle of this makes a file outside when it is loaded."""
        return Bomb(self.outside / "made")

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take down what must not happen."""
        if event in ACTS or (event == "open" and str(arguments[0]).startswith(str(self.outside))):
            self.seen.append((event, str(arguments[0])))

    def idle(self, action: Callable[[], Any]) -> Any:
        """What an action gives, or raises: it may do nothing to the outside."""
        before = sorted(self.outside.iterdir())
        self.seen.clear()
        try:
            return action()
        finally:
            assert self.seen == []
            assert sorted(self.outside.iterdir()) == before

    def refused(self, action: Callable[[], Any]) -> str:
        """The one short line that an action on a hostile folder ends with."""
        with pytest.raises(UserError) as caught:
            self.idle(action)
        assert len(str(caught.value)) < 600
        assert TOKEN not in str(caught.value)
        return str(caught.value)


WATCHING: list[Watch] = []
"""Those that look now."""


@pytest.fixture(scope="session")
def audit() -> None:
    """One hook for all, as none can be taken away again."""
    sys.addaudithook(lambda event, arguments: [watch.hook(event, arguments) for watch in WATCHING] and None)


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, audit: None) -> Iterator[Watch]:
    """A watch, with a token of the user's in the environment."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    (tmp_path / "outside").mkdir()
    WATCHING.append(Watch(tmp_path / "outside"))
    yield WATCHING[-1]
    WATCHING.clear()


@pytest.fixture(scope="session")
def model(build_model: Callable[..., TalkingHead]) -> TalkingHead:
    """An untrained model of 32 px, not to be changed."""
    return build_model()


@pytest.fixture
def moved() -> Callable[[nn.Module], Callable[[], set[str]]]:
    """Remembers a module; what it gives names the parameters that have changed since, which must be finite."""

    def remember(module: nn.Module) -> Callable[[], set[str]]:
        before = {name: value.detach().clone() for name, value in module.named_parameters()}

        def names() -> set[str]:
            assert all(value.isfinite().all() for value in module.parameters())
            return {name for name, value in module.named_parameters() if not torch.equal(value, before[name])}

        return names

    return remember


@pytest.fixture
def trainer(tmp_path) -> Callable[..., L.Trainer]:
    """Makes quiet trainers on the CPU."""
    return functools.partial(
        L.Trainer,
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


@pytest.fixture(scope="session")
def motion_windows() -> Callable[..., MotionWindowBatch]:
    """Makes a batch of windows of given motion and speech; what else it holds is random, or as given."""

    def make(motion: Tensor, audio: Tensor, appearance_dim: int = 512, **known: Tensor) -> MotionWindowBatch:
        generator, count = torch.Generator().manual_seed(7), len(motion)
        rest = {
            "source_motion": torch.randn(motion[:, 0].shape, generator=generator),
            "appearance": torch.randn(count, appearance_dim, generator=generator),
            "audio_around": torch.randn(count, 2, 2 * CONTEXT, audio.shape[-1], generator=generator),
            "previous": torch.where(
                (torch.arange(count) % 2 == 0)[:, None, None],
                torch.rand(motion.shape, generator=generator),
                torch.nan,
            ),
            "valid": torch.ones(count, WINDOW, dtype=torch.bool),
        }
        rest["previous"][:, -1] = motion[:, 0]  # the hint is always known
        return MotionWindowBatch(motion=motion, audio=audio, **rest | known)

    return make


@pytest.fixture
def loader() -> Callable[..., DataLoader]:
    """Makes a loader of the items of a batch, a NamedTuple."""

    def make(batch: Any, batch_size: int, repeat: int = 1) -> DataLoader:
        items = [type(batch)(*(value[i] for value in batch)) for i in range(len(batch[0]))]
        return DataLoader(items * repeat, batch_size=batch_size)

    return make
