"""What each direction of a model's motion does to a portrait, as a grid on a page: ``ifmdm report --templates MODEL``."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from lightning_modules.generation.talking_head import TalkingHead
    from lightning_modules.networks.base_renderer import SourceEncoding

DEVIATIONS = (-3.0, -1.5, 0.0, 1.5, 3.0)
"""Standard deviations of the training motion by which a direction is moved."""
TILE = 112


def write_templates(model: Path, image: Path | None, output: Path | None) -> Path:
    """Write the page; returns its path, by default ``templates.html`` here.

    Args:
        model: model folder, or name of a shipped model.
        image: the portrait; None: a photograph that comes along.
        output: the page.

    Raises:
        UserError: No such model or picture, or no face in it.
    """
    from datamodules.media.pictures import read_image
    from experiments.generate import face_finder, frame_portrait
    from experiments.pictures import contact_sheet, sample_portrait
    from experiments.report.page import Section, write_page
    from lightning_modules.generation.devices import inference_device
    from lightning_modules.generation.talking_head import TalkingHead
    from lightning_modules.model_folder import resolve_model

    folder = resolve_model(model)
    picture, path = (sample_portrait(), Path("the portrait")) if image is None else (read_image(image), image)
    portrait, _ = frame_portrait(picture, path, face_finder("largest"))
    talking_head = TalkingHead.from_pretrained(folder, hears=False).to(inference_device())
    source = talking_head.prepare_source(portrait)
    names = ", ".join(f"{deviation:+g}" for deviation in DEVIATIONS)
    lead = f"Each row moves one direction by {names} standard deviations of the training motion and holds the others."
    with tempfile.TemporaryDirectory() as place:
        sections: list[Section] = []
        for title, rows in (
            ("Coordinates of the motion basis", coordinate_motions(talking_head, source)),
            ("Templates", template_motions(talking_head, source)),
        ):
            frames = {label: list(talking_head.render(source, motion)) for label, motion in rows}
            sheet = contact_sheet(frames, Path(place) / f"{len(sections)}.png", TILE)
            sections.append(Section(title, lead, pictures=[(sheet, title)]))
        return write_page(sections, output or Path("templates.html"), f"Motion of {folder.name}")


def coordinate_motions(
    model: "TalkingHead", source: "SourceEncoding"
) -> "Iterator[tuple[str, torch.Tensor]]":
    """Label and raw motion ``(N, M)`` of each coordinate of the basis, with the name of its block."""
    import torch

    rest = model.basis.encode(source.motion)  # (1, M)
    block_of = {k: name for name, part in model.basis.blocks.items() for k in range(part.start, part.stop)}
    for k in range(model.basis.motion_dim):
        moved = rest.repeat(len(DEVIATIONS), 1)
        moved[:, k] += torch.tensor(DEVIATIONS, device=moved.device)
        yield f"{block_of.get(k, 'direction')} {k + 1}", model.basis.coefficients(moved)


def template_motions(model: "TalkingHead", source: "SourceEncoding") -> "Iterator[tuple[str, torch.Tensor]]":
    """Label and raw motion ``(N, M)`` of each template, with the standard deviation of its coefficient."""
    import torch

    spread = model.basis.coefficient_std()
    for k in range(model.basis.motion_dim):
        moved = source.motion.repeat(len(DEVIATIONS), 1)
        moved[:, k] += spread[k] * torch.tensor(DEVIATIONS, device=moved.device)
        yield f"template {k + 1} (std {float(spread[k]):.2f})", moved.clamp(-1, 1)
