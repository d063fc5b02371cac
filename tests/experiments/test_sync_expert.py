"""The judge of lip sync is packed by `ifmdm package` and read back by the metrics; how it trains is in test_train.py."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.errors import UserError
from experiments import cli
from experiments.config import compose
from experiments.package import pack_sync_expert
from experiments.train import TrainingResult, run_training
from metrics.judges.syncnet import load_expert
from metrics.sync import lip_sync

QUICK = (
    "experiment=sync_expert_tiny data=folder data.batch_size=4 data.num_workers=0 data.windows_per_clip=4 "
    "data.cache_frames=false model.network.width=0.0625 model.network.size=64 trainer.accelerator=cpu "
    "trainer.max_steps=6"
)


@pytest.fixture(scope="module")
def trained(fake_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    run_dir = tmp_path_factory.mktemp("runs") / "sync"
    return run_training(compose([*QUICK.split(), f"data.root={fake_clips}", f"run_dir={run_dir}"]))


@pytest.mark.parametrize("full", [True, False])
def test_a_run_is_packed_and_judges(trained, tmp_path, full):
    folder = tmp_path / "expert"
    flags = ["--sync-expert", str(trained.run_dir), "--output", str(folder), *(["--full"] if full else [])]
    assert cli.main(["package", *flags]) == 0
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    settings = {"name": "syncnet", "width": 0.0625, "size": 64, "region": [0.2, 0.42, 0.8, 1.0]}
    assert json.loads((folder / "config.json").read_text())["network"] == settings
    assert "| sync |" in (folder / "README.md").read_text()
    assert 0 <= json.loads((trained.run_dir / "run.json").read_text())["metrics"]["val/accuracy"] <= 1
    expert = load_expert(folder)
    best = trained.run_dir / "checkpoints" / "best.ckpt"
    state = torch.load(best, map_location="cpu", weights_only=True)["state_dict"]
    tolerance = 0.0 if full else 1e-3
    for name, value in expert.state_dict().items():
        torch.testing.assert_close(value, state[f"network.{name}"], atol=tolerance, rtol=tolerance)
    frames = torch.randint(0, 256, (30, 3, 64, 64), dtype=torch.uint8)
    (found,) = lip_sync(expert, frames, [0.1 * torch.randn(19200)])
    assert np.isfinite([found.distance, found.confidence]).all()


def test_packing_refuses_what_is_no_sync_run(trained, tmp_path, refused):
    other = tmp_path / "other"
    (other / "checkpoints").mkdir(parents=True)
    record = json.loads((trained.run_dir / "network.json").read_text())
    (other / "network.json").write_text(json.dumps(record | {"stage": "diffusion"}))
    (other / "checkpoints" / "last.ckpt").write_bytes(b"")
    with pytest.raises(UserError, match="stage 'diffusion', not sync"):
        pack_sync_expert(other, tmp_path / "expert")
    (other / "network.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"last.ckpt: can't be read"):
        pack_sync_expert(other, tmp_path / "expert")
    assert not (tmp_path / "expert").exists()
    command = ["package", "--output", tmp_path / "expert", "--diffusion", "run"]
    refused([*command, "--sync-expert", "run"], "leave --diffusion out")
    refused(command, "give --autoencoder, --statistics, too")
