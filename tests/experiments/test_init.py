"""A training starts from published weights, of a run or of a model folder, with a fresh optimizer."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from datamodules.errors import UserError
from experiments.config import compose, instantiate
from experiments.package import pack_model
from experiments.run_folder import config_hash
from experiments.train import TrainingResult
from lightning_modules.checkpoints import NetworkRecord, load_network
from lightning_modules.generation.talking_head import TalkingHead
from lightning_modules.initial_weights import start_from

STILL = ["model.optimizer.lr=0", "trainer.max_steps=1", "seed=5"]
"""One step that leaves all parameters as they were."""


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainingResult]:
    """Trainings of stages 2 and 3, made by the first test that wants them."""
    return {}


@pytest.fixture
def published(runs, train, autoencoder, tmp_path_factory) -> Path:
    """Model folder of three short trainings, with its weights in full precision."""
    if not runs:
        place = tmp_path_factory.mktemp("published")
        runs |= {s: train(s, f"run_dir={place / s}") for s in ("statistics", "diffusion")}
        folders = (autoencoder.run_dir, runs["statistics"].run_dir, runs["diffusion"].run_dir)
        pack_model(*folders, place / "model", half=False)
    return runs["diffusion"].run_dir.parent / "model"


def state_of(run: Path | TrainingResult) -> dict[str, torch.Tensor]:
    return load_network(run.run_dir if isinstance(run, TrainingResult) else run)[2]


@pytest.mark.parametrize("stage", ["autoencoder", "statistics", "diffusion"])
def test_it_starts_from_a_run_or_model_folder_and_says_so(
    stage, train, runs, published, autoencoder, tmp_path, caplog
) -> None:
    trained = {**runs, "autoencoder": autoencoder}[stage]
    for source, name in ((trained.run_dir, "best.ckpt"), (published, "model.safetensors")):
        where = ["callbacks.ema=null", f"run_dir={tmp_path / name.partition('.')[0]}"]
        if stage != "autoencoder":
            where.append(f"autoencoder={source if source == published else autoencoder.run_dir}")
        result = train(stage, f"init={source}", *STILL, *where)
        wanted, found = state_of(trained), state_of(result)
        names = [n for n, _ in load_network(trained.run_dir)[0].named_parameters()]
        assert all(torch.equal(found[f"network.{n}"], wanted[f"network.{n}"]) for n in names)
        kept = ("basis.",)
        if source == trained.run_dir:  # a model folder holds no losses
            kept = ("basis.", "losses.", "speech_readout.")
        assert all(torch.equal(found[n], wanted[n]) for n in wanted if n.startswith(kept))
        assert ("has nothing of what the losses learn (pose)" in caplog.text) == (
            stage == "autoencoder" and source == published
        )
        optimizer = torch.load(result.checkpoint, weights_only=True)["optimizer_states"][0]["state"]
        assert {int(one["step"]) for one in optimizer.values()} == {1}
        told = json.loads((result.run_dir / "run.json").read_text())["init"]
        assert told["file"].endswith(name)
        assert len(told["sha256"]) == 64


def test_stages_on_a_published_autoencoder_become_a_model_with_it(train, published, tmp_path) -> None:
    """A basis goes with the motion: with another autoencoder it is fitted anew."""
    where = f"autoencoder={published}"
    made = [
        train(s, where, "trainer.max_steps=2", f"run_dir={tmp_path / s}").run_dir
        for s in ("statistics", "diffusion")
    ]
    pack_model(published, *made, tmp_path / "again", half=False)
    first, again = TalkingHead.from_pretrained(published), TalkingHead.from_pretrained(tmp_path / "again")
    for name, value in first.autoencoder.state_dict().items():
        assert torch.equal(again.autoencoder.state_dict()[name], value), name
    assert "| autoencoder, of model |" in (tmp_path / "again/README.md").read_text()
    other = train("autoencoder", "seed=1", "trainer.max_steps=1", f"run_dir={tmp_path / 'other'}").run_dir
    anew = train("diffusion", f"autoencoder={other}", f"init={published}", *STILL)
    assert not torch.equal(state_of(anew)["basis.matrix"], first.basis.matrix)


@pytest.mark.parametrize(
    ("stage", "more", "message"),
    [
        ("autoencoder", "init=nowhere", r"init=nowhere: no such run folder, checkpoint or model"),
        ("autoencoder", "init=synthetic-128", r"init=.*autoencoder/model.safetensors: weights don't fit the network: '"),
        ("autoencoder", "init=RUN model.network.latent_dim=48", r"best.ckpt: weights don't fit the network: '.*expected \["),
        ("autoencoder", "init=RUN lift=RUN", "give one of them"),
        ("diffusion", "init=RUN", r"init=.*best.ckpt: trained stage 'autoencoder', not 'diffusion'"),
        ("sync_expert", "init=synthetic-128", "synthetic-128: a model folder holds no stage 'sync'"),
        ("diffusion", "autoencoder=synthetic-129", "autoencoder=synthetic-129: no such run folder, checkpoint or model"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(
    stage: str, more: str, message: str, train: Callable[..., TrainingResult], autoencoder, tmp_path
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        train(stage, *more.replace("RUN", str(autoencoder.run_dir)).split())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run/checkpoints").exists()


def test_a_part_alone_learns_at_the_size_that_the_rest_knows(autoencoder) -> None:
    """Its latents would be others, and stages 2 and 3 packed with it as if they weren't."""
    model = SimpleNamespace(hparams={"trainable": "decoder"})
    record = NetworkRecord("autoencoder", {"name": "paper_renderer", "size": 64})
    with pytest.raises(UserError, match=r"looks at 32 px, this training at 64 px: .*network.size=32"):
        start_from(autoencoder.checkpoint, record, model)


def test_the_demo_teaches_no_layer_of_a_loss_from_scratch() -> None:
    """It starts from a model folder, which holds none: a random one would pull the trained motion encoder away."""
    losses = instantiate(compose(["experiment=autoencoder_demo"]).model).losses
    assert not [name for name, value in losses.named_parameters() if value.requires_grad]


def test_the_content_of_the_weights_is_part_of_the_identity(autoencoder, tmp_path) -> None:
    elsewhere = shutil.copy(autoencoder.checkpoint, tmp_path / "elsewhere.ckpt")
    one, same, none = (
        config_hash({"init": path and str(path)}) for path in (autoencoder.checkpoint, elsewhere, None)
    )
    elsewhere.write_bytes(b"other")
    assert one == same
    assert len({one, none, config_hash({"init": str(elsewhere)})}) == 3
