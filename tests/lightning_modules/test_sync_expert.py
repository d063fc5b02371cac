"""The sync expert learns what belongs together, in both branches, by either loss."""

import functools
import math
from pathlib import Path

import pytest
import torch

from datamodules.batches import SyncWindowBatch
from datamodules.errors import UserError
from lightning_modules.learning_rate import warmup_cosine
from lightning_modules.sync_expert import (
    Comparison,
    SyncNetModule,
    accuracy,
    augment_windows,
    contrastive_loss,
    info_nce,
)
from metrics.judges.syncnet import SyncNet

LOSSES = ["infonce", "contrastive"]


def windows(count: int = 8, seed: int = 0) -> SyncWindowBatch:
    """Frames as bright as their own sound is loud."""
    generator = torch.Generator().manual_seed(seed)
    level = torch.rand(count, 1, generator=generator)
    other = (level + 0.3 + 0.4 * torch.rand(count, 1, generator=generator)) % 1
    noise = torch.randn(2, count, 3200, generator=generator)
    grain = torch.randn(count, 5, 3, 56, 56, generator=generator)
    frames = (1.6 * level - 0.8)[:, :, None, None, None] + 0.1 * grain
    own_sound, other_sound = 0.2 * 10 ** (2 * torch.stack([level, other]) - 2) * noise
    shown = [values.clamp(-1, 1) for values in (frames, own_sound, other_sound)]
    return SyncWindowBatch(*shown, torch.full((count,), 9))


def build(**options) -> SyncNetModule:
    torch.manual_seed(0)
    options = {"margin": 3.0} | options
    optimizer = functools.partial(torch.optim.AdamW, lr=3e-3)
    return SyncNetModule(SyncNet(0.125, 56), optimizer, warmup_cosine, **options)


@pytest.mark.parametrize("loss", LOSSES)
def test_training_on_a_few_windows_lowers_the_loss_and_tells_own_from_other_sound(
    loss: str, trainer, loader, tmp_path: Path
) -> None:
    module = build(loss=loss)
    few = windows(32)
    run = trainer(max_epochs=20, check_val_every_n_epoch=20)
    before = run.validate(module, loader(few, 32), verbose=False)[0]
    run.fit(module, loader(few, 16), loader(few, 32))
    after = run.callback_metrics
    for name in ("val/loss", "val/untold"):
        assert after[name] < 0.9 * before[name]
    assert after["val/accuracy"] > 0.9
    run.save_checkpoint(tmp_path / "module.ckpt")
    checkpoint = torch.load(tmp_path / "module.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"]["loss"] == loss
    build(loss=loss).load_state_dict(checkpoint["state_dict"])


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_reaches_every_parameter_of_both_branches(loss: str) -> None:
    module = build(loss=loss)
    seen = module.compare(windows())
    (module.contrast(seen) + seen.cepstra_error).backward()
    for name, parameter in module.named_parameters():
        if name == "log_factor" and loss == "contrastive":
            assert parameter.grad is None
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
    for branch in ("netcnnaud", "netfcaud", "netcnnlip", "netfclip"):
        first = next(iter(getattr(module.network, branch).parameters()))
        assert first.grad is not None
        assert first.grad.abs().max() > 0, branch


@pytest.mark.parametrize("negatives_weight", [0.0, 0.5])
@pytest.mark.parametrize("loss", LOSSES)
def test_swapping_own_and_other_sound_changes_the_loss(loss: str, negatives_weight: float) -> None:
    module = build(loss=loss, negatives_weight=negatives_weight).eval()
    batch = windows()
    swapped = batch._replace(waveform=batch.other, other=batch.waveform)
    with torch.no_grad():
        seen, exchanged = module.compare(batch), module.compare(swapped)
    torch.testing.assert_close((exchanged.own, exchanged.other), (seen.other, seen.own))
    assert not torch.isclose(module.contrast(seen), module.contrast(exchanged))
    assert float(accuracy(seen) + accuracy(exchanged)) == pytest.approx(1)
    assert module.contrast(module.compare(windows(1))).isfinite()


def test_losses_are_their_formulas() -> None:
    own, other = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0))
    seen = Comparison(own, other, torch.zeros(()))
    factor, total = 2.5, 0.0
    for i in range(3):
        sounds = sum(math.exp(-factor * float(v)) for v in (*own[i], *other[i]))
        lips = sum(math.exp(-factor * float(v)) for v in own[:, i])
        total -= 2 * -factor * float(own[i, i]) - math.log(sounds) - math.log(lips)
    assert float(info_nce(own, other, torch.tensor(factor))) == pytest.approx(total / 6, rel=1e-5)
    pairs, same = own.diagonal(), other.diagonal()
    lacks = [max(0.0, 0.6 - float(value)) ** 2 for value in same]
    expected = (float(pairs.square().mean()) + sum(lacks) / 3) / 2
    assert float(contrastive_loss(pairs, same, 0.6)) == pytest.approx(expected, rel=1e-5)

    clip = sum(math.log(1 + math.exp(float(p - s))) for p, s in zip(pairs, same, strict=True)) / 3
    assert float(build(negatives_weight=0.0).contrast(seen).detach()) == pytest.approx(clip, rel=1e-5)
    both = build(negatives_weight=0.5).contrast(seen).detach()
    assert float(both) == pytest.approx(clip + 0.5 * float(info_nce(own, other, torch.tensor(1.0))), rel=1e-5)

    off = [(i, j) for i in range(3) for j in range(3) if i != j]
    negatives = torch.stack([table[i, j] for table in (own, other) for i, j in off])
    both = build(loss="contrastive", margin=0.6, negatives_weight=2.0).contrast(seen)
    expected += 2 * float(contrastive_loss(pairs, negatives, 0.6))
    assert float(both) == pytest.approx(expected, rel=1e-5)
    assert float(accuracy(Comparison(torch.zeros(2, 2), torch.zeros(2, 2), torch.zeros(())))) == 0.5


def test_cepstra_are_what_a_linear_layer_reads_off_both_branches(trainer, loader) -> None:
    module, batch = build(), windows()
    torch.nn.init.zeros_(module.cepstra_readout.weight)
    torch.nn.init.zeros_(module.cepstra_readout.bias)
    error = float(module.compare(batch).cepstra_error.detach())
    assert error == pytest.approx(2, abs=0.3)  # of each branch all that is standardised
    assert not any(p.requires_grad for p in build(cepstra_weight=0.0).cepstra_readout.parameters())
    totals = []
    for weight in (0.0, 1.0, 2.0):
        run = trainer(max_steps=1)
        run.fit(build(cepstra_weight=weight), loader(batch, 8))
        totals.append(float(run.callback_metrics["train/loss"]))
    assert totals[0] < totals[1]
    assert totals[2] - totals[1] == pytest.approx(totals[1] - totals[0], rel=1e-4)


def test_variation_changes_all_but_what_belongs_together() -> None:
    batch = windows(32)
    torch.manual_seed(1)
    changed = augment_windows(batch)
    assert [value.shape for value in changed] == [value.shape for value in batch]
    for before, after in zip(batch[:3], changed[:3], strict=True):
        assert not torch.equal(before, after)
        assert after.abs().max() <= 1
    quiet = batch._replace(waveform=batch.waveform / 10, other=batch.other / 10)
    louder = augment_windows(quiet)
    gains = [
        (after / before).nanmedian(dim=1).values
        for before, after in ((quiet.waveform, louder.waveform), (quiet.other, louder.other))
    ]
    torch.testing.assert_close(gains[0], gains[1])  # else loudness would tell own from other
    assert gains[0].min() < 0.8
    assert gains[0].max() > 1.25
    still = batch._replace(frames=batch.frames[:, :1].expand(-1, 5, -1, -1, -1))
    shown = augment_windows(still).frames
    torch.testing.assert_close(shown, shown[:, :1].expand_as(shown))  # alike in all frames
    torch.manual_seed(1)
    assert torch.equal(augment_windows(batch).frames, changed.frames)


def test_an_unknown_loss_is_refused() -> None:
    with pytest.raises(UserError, match="loss 'triplet'"):
        build(loss="triplet")
