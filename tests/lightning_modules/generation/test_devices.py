"""Where models generate: the device that is chosen, and that all of a generation is on the model's."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from datamodules.errors import UserError
from experiments.report.templates import coordinate_motions
from lightning_modules.diffusion.gaussian_diffusion import GaussianDiffusion
from lightning_modules.diffusion.schedules import NoiseSchedule
from lightning_modules.generation import reenactment, talking_head
from lightning_modules.generation.devices import inference_device
from lightning_modules.generation.options import GenerationOptions
from lightning_modules.generation.retargeting import (
    relative_motion,
    retargeted_motion,
    trial_turns,
    turned_as_seen,
)
from lightning_modules.generation.talking_head import TalkingHead
from lightning_modules.networks.motion_basis import MotionBasis


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    def there_are(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return there_are


@pytest.mark.parametrize(
    ("count", "asked", "found"),
    [(0, "", "cpu"), (2, "", "cuda"), (2, "cpu", "cpu"), (2, "cuda:1", "cuda:1"), (1, " cuda ", "cuda")],
)
def test_a_gpu_is_used_where_there_is_one(gpus, count, asked, found):
    gpus(count)
    assert inference_device({"IFMDM_DEVICE": asked}) == torch.device(found)
    assert inference_device({}) == torch.device("cuda" if count else "cpu")


@pytest.mark.parametrize(
    ("asked", "told"), [("cuda", "finds 1 GPUs"), ("mps", "use cpu"), ("gpu", "use cpu")]
)
def test_a_device_that_is_not_there_is_refused(gpus, asked, told):
    gpus(1)
    with pytest.raises(UserError, match=told):
        inference_device({"IFMDM_DEVICE": "cuda:1" if asked == "cuda" else asked})


def _shape_of(data: Any, dtype: torch.dtype | None = None, device: Any = "cpu") -> Tensor:
    """`torch.tensor` as far as a GPU that is not there can follow."""
    given = np.asarray(data)
    kinds = {"b": torch.bool, "i": torch.int64, "f": torch.float32}
    return torch.empty(given.shape, dtype=dtype or kinds[given.dtype.kind], device=device)


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[TalkingHead]:
    """The shipped model on a GPU that needs not be there: tensors without values, which know their device.

    What asks for values is stood in for: blocks of the basis, seeds, sampling times, pictures and the lids in them.
    """
    model = TalkingHead.from_pretrained("synthetic-256")
    monkeypatch.setattr(MotionBasis, "blocks", model.basis.blocks)
    monkeypatch.setattr(talking_head, "speech_seed", lambda seed, audio: seed)
    monkeypatch.setattr(
        NoiseSchedule, "sampling_times", lambda self, count, target: torch.linspace(1, 0, count + 1)
    )
    monkeypatch.setattr(reenactment, "to_pixels", lambda images: images)
    monkeypatch.setattr(talking_head, "find_points", lambda portrait: None)
    monkeypatch.setattr(torch, "tensor", _shape_of)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.diffusion = GaussianDiffusion(**{**model.diffusion.settings(), "sampler": "ddim"})
        for module in model.modules():
            for store in (module._parameters, module._buffers):
                for name, value in store.items():
                    store[name] = None if value is None else torch.empty_like(value, device="cuda")
        yield model


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"statistics": "none"},
        {"statistics": "previous", "std_quantile": 0.5},
        {"intensity": 2.0, "scaling": "statistics", "mouth_intensity": 0.5, "mouth_temperature": 0.5},
        {"intensity": 2.0, "scaling": "motion", "statistics_guidance": 2.0},
    ],
)
def test_all_of_a_generation_is_on_the_device_of_the_model(on_gpu, options):
    source = on_gpu.prepare_source(torch.zeros(3, 100, 100), on_gpu.usual_size)
    audio = on_gpu.speech_features(np.zeros(640 * 100, np.float32))
    found = on_gpu.motion_and_request(source, audio, GenerationOptions(**options))
    assert found.motion.device.type == "cuda"
    assert found.motion.shape == (100, 20)
    frames = list(on_gpu.render(source, found.motion[:3]))
    assert {frame.device.type for frame in frames} == {"cuda"}


def head_turns(model, own, driving):
    """Trials of a portrait's head, and motion by what is seen of them and of the driver, which comes from the CPU."""
    if "head" not in model.basis.blocks:
        pytest.fail("a basis with a head is needed")
    trials = trial_turns(own, model.basis)
    seen = torch.randn(len(trials), 5)
    return trials, turned_as_seen(driving, own, model.basis, torch.zeros(len(driving), 5), seen)


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
def test_all_of_a_reenactment_is_on_the_device_of_the_model(on_gpu):
    source = on_gpu.prepare_source(torch.zeros(3, 100, 100))
    driving = on_gpu.motion_of(torch.zeros(5, 3, 128, 128))
    for motion in (
        retargeted_motion(driving, source.motion, on_gpu.basis),
        relative_motion(driving, source.motion),
        *head_turns(on_gpu, source.motion, driving),
    ):
        assert motion.device.type == "cuda"
    _, motion = next(iter(coordinate_motions(on_gpu, source)))
    assert motion.device.type == "cuda"
