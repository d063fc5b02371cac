"""How stage 1 trains: its losses, its GAN, a part alone."""

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from datamodules.batches import FramePairBatch
from datamodules.errors import UserError
from lightning_modules.callbacks.autoencoder_pictures import contact_sheet
from lightning_modules.learning_rate import warmup_cosine
from lightning_modules.losses.adversarial import AdversarialLoss
from lightning_modules.losses.base import evaluate_terms
from lightning_modules.losses.face import MouthLoss, PlaceLoss, PoseLoss
from lightning_modules.losses.reconstruction import EdgeLoss, L1Loss, WarpLoss
from lightning_modules.motion_autoencoder import MotionAutoencoderModule
from lightning_modules.networks.base_renderer import DecoderOutput, Renderer, SourceEncoding
from lightning_modules.networks.discriminator import Discriminator
from lightning_modules.networks.paper_renderer import PaperRenderer

CHANNELS = {4: 16, 8: 16, 16: 12, 32: 8}


def adam(lr: float = 1e-3):
    return functools.partial(torch.optim.Adam, lr=lr, betas=(0.5, 0.99))


def build(losses=None, lr: float = 1e-3, network=None, **options) -> MotionAutoencoderModule:
    torch.manual_seed(0)
    renderer = PaperRenderer(32, CHANNELS, 32, 6, **network or {})
    return MotionAutoencoderModule(renderer, adam(lr), losses or {"l1": L1Loss()}, **options)


def batch() -> FramePairBatch:
    torch.manual_seed(1)
    frames = F.interpolate(torch.rand(4, 3, 8, 8), size=32, mode="bicubic") * 2 - 1
    boxes = torch.tensor([[[0.2, 0.5, 0.8, 0.9]] * 3] * 2)
    pose = torch.linspace(-1, 1, 32).view(2, 2, 8)
    nothing = torch.zeros(2, 2, 0, 2), pose, torch.zeros(2, 2, 0), torch.zeros(2, 2, 0, 0)
    return FramePairBatch(frames[:2], frames[2:], frames[2:], boxes, *nothing)


def test_training_overfits_a_pair(trainer, loader, moved):
    losses = {
        "l1": L1Loss(),
        "warp": WarpLoss(0.5),
        "gradient": EdgeLoss(0.5),
        "pose": PoseLoss(6),
        "off": None,
    }
    module = build(losses, 3e-3, {"source_skip": True, "rgb_input": "blend"})
    learned = moved(module.losses)
    first = module.evaluate(module.render(batch()), batch())
    assert set(first) == {"l1", "warp", "gradient", "pose", "loss"}
    run = trainer(max_steps=60)
    run.fit(module, loader(batch(), 2, 60))
    assert module.evaluate(module.render(batch()), batch())["loss"] < 0.7 * first["loss"]
    assert learned() == {"pose.readout.weight", "pose.readout.bias"}
    figures = run.validate(module, loader(batch(), 2), verbose=False)[0]
    assert {"val/loss", "val/l1", "val/psnr", "val/psnr_copy"} <= set(figures)


class Brightness(Renderer):
    """A renderer without flow: motion is how bright a picture is."""

    size, motion_dim, latent_dim = 32, 1, 1

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(()))

    def encode(self, image: torch.Tensor) -> SourceEncoding:
        motion = self.motion(image)
        return SourceEncoding(image, motion, motion, ())

    def motion(self, image: torch.Tensor) -> torch.Tensor:
        return image.mean(dim=(1, 2, 3))[:, None]

    def decode(self, code: SourceEncoding, motion: torch.Tensor) -> DecoderOutput:
        return DecoderOutput(code.image + self.gain * (motion - code.motion)[:, :, None, None])


def test_another_renderer_is_trained_and_shown_without_a_word_about_it(trainer, loader):
    module = MotionAutoencoderModule(Brightness(), adam(0.05), {"l1": L1Loss(), "place": PlaceLoss()})
    moved = batch().source + 0.3
    pair = batch()._replace(driving=moved, shown=moved)
    trainer(max_steps=40).fit(module, loader(pair, 2, 40))
    assert float(module.network.gain.detach()) == pytest.approx(1, abs=0.1)
    assert contact_sheet(module, pair, 1).shape == (32, 3 * 32, 3)
    with pytest.raises(UserError, match=r"set model\.losses\.warp=null"):
        evaluate_terms(torch.nn.ModuleDict({"warp": WarpLoss()}), module.render(pair), pair)


def test_the_mouth_places_the_painter_and_teaches_motion():
    losses = {"mouth": MouthLoss(2.0), "place": PlaceLoss()}
    module, pair = build(losses, network={"mouth_painter": 8}), batch()
    nn.init.normal_(module.network.mouth_painter.place.weight)
    values = module.evaluate(module.render(pair), pair)
    torch.testing.assert_close(values["loss"], 2 * values["mouth"] + values["place"])
    values["place"].backward()
    assert module.network.mouth_painter.place.bias.grad.abs().sum() > 0
    assert module.network.motion_head[-1].weight.grad.abs().sum() > 0
    assert module.network.templates.weight.grad is None


def test_a_painter_that_would_never_find_the_mouth_and_unknown_parts_are_refused():
    with pytest.raises(UserError, match="'place'"):
        build(network={"mouth_painter": 8})
    with pytest.raises(UserError, match=r"one of all, outer, decoder$"):
        build(trainable="refine")


def test_the_gan_joins_at_its_batch_and_batches_are_what_counts(trainer, loader, moved):
    discriminator = Discriminator(32, CHANNELS)
    scheduler = functools.partial(warmup_cosine, warmup_steps=0, final_factor=0.5)
    gan = AdversarialLoss(discriminator, adam(), weight=0.5, start=2)
    module = build(scheduler=scheduler, gan=gan)
    learned = moved(discriminator)
    assert "adversarial" not in module.evaluate(module.render(batch()), batch())
    run = trainer(max_steps=2)
    run.fit(module, loader(batch(), 2, 9))
    assert not learned()
    run = trainer(max_steps=5)
    run.fit(module, loader(batch(), 2, 9))
    assert run.global_step == 5
    assert [optimizer.param_groups[0]["lr"] for optimizer in run.optimizers] == pytest.approx([5e-4, 5e-4])
    assert {"train/adversarial", "train/discriminator", "train/learning_rate"} <= set(run.callback_metrics)
    assert learned() == {name for name, _ in discriminator.named_parameters()}
    assert all(parameter.requires_grad for parameter in module.parameters())
    values = module.evaluate(module.render(batch()), batch(), gan)
    torch.testing.assert_close(values["loss"], values["l1"] + 0.5 * values["adversarial"])


def test_each_network_learns_from_its_own_loss_alone(trainer, loader):
    """A discriminator that can't be fooled: the renderer's loss must not teach it, nor its own the renderer."""
    gan = AdversarialLoss(Discriminator(32, CHANNELS), functools.partial(torch.optim.SGD, lr=0.0))
    alone, together = build(), build(gan=gan)
    gan.weight = 0.0
    for module in (alone, together):
        trainer(max_steps=2).fit(module, loader(batch(), 2, 2))
    for name, value in alone.network.named_parameters():
        torch.testing.assert_close(together.network.get_parameter(name), value, msg=name)


@pytest.mark.parametrize("part", ["outer", "decoder", "refine"])
def test_partial_training_moves_only_that_part(part, trainer, loader, moved):
    network = {"source_skip": True, "mouth_painter": 8, "refine_channels": 4}
    module = build({"l1": L1Loss(), "place": PlaceLoss()}, network=network, trainable=part)
    parts = module.network.parts()[part]
    wanted = {id(p) for m in parts for p in ([m] if isinstance(m, nn.Parameter) else m.parameters())}
    names = {name for name, p in module.network.named_parameters() if id(p) in wanted}
    assert ("mouth_painter.paint.weight" in names) == (part != "refine")
    learned = moved(module.network)
    trainer(max_steps=1).fit(module, loader(batch(), 2))
    assert learned()
    assert learned() <= names


def test_the_lazy_penalty_is_that_of_every_batch_on_average():
    """Of a linear discriminator the gradient is its weight: r1 / 2 times its square, at every k-th batch k times."""

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(0.5))

        def forward(self, frames: torch.Tensor) -> torch.Tensor:
            return self.weight * frames.sum(dim=(1, 2, 3))

    frames, boxes = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4)
    plain, lazy = (AdversarialLoss(Linear(), adam(), r1=r1, r1_every=4) for r1 in (0.0, 3.0))
    extra = [
        float(
            lazy.discriminator_loss(frames, frames, boxes, k)
            - plain.discriminator_loss(frames, frames, boxes, k)
        )
        for k in range(8)
    ]
    assert extra == pytest.approx([4 * 3 / 2 * 48 * 0.25, 0, 0, 0] * 2)
    lazy.discriminator_loss(frames, frames, boxes, 0).backward()
    assert lazy.discriminator.weight.grad == pytest.approx(4 * 3 / 2 * 48 * 2 * 0.5)
