"""``ifmdm package``: makes a model folder of three trained stages, ready for ``ifmdm generate --model``.

With ``--sync-expert`` it makes the folder of a judge of lip sync instead, with ``--convert`` it renews a folder of before.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

from datamodules.errors import UserError
from datamodules.files import file_inside, read_plain_json, require_output_folder, whole_folder

log = logging.getLogger(__name__)

STAGES = ("autoencoder", "statistics", "diffusion")
CARD_MEASURES = (
    "val/accuracy",
    "val/loss",
    "val/nll",
    "val/nll_unconditional",
    "val/psnr",
    "val/psnr_copy",
    "val/sample_correlation_mouth",
)
"""Measures that a card shows."""
MOST_CELL = 80
"""Letters in a cell of a card's table."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the words of ``ifmdm package``."""
    for stage in STAGES:
        what = f"run folder or checkpoint of stage {stage}, or a model folder or name that has it"
        parser.add_argument(f"--{stage}", type=Path, metavar="RUN", help=what)
    what = "instead: run folder or checkpoint of stage sync"
    parser.add_argument("--sync-expert", type=Path, metavar="RUN", help=what)
    what = (
        "instead: a model folder, sync expert or run of an older version, whose config.yaml is read as text"
    )
    parser.add_argument("--convert", type=Path, metavar="OLD", help=what)
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    what = "keep float32 weights (default: float16, half the size)"
    parser.add_argument("--full", action="store_true", help=what)


def run(args: argparse.Namespace) -> int:
    """Package as the command line says."""
    require_output_folder(args.output)
    runs = {stage: getattr(args, stage) for stage in STAGES}
    given = [f"--{stage}" for stage, path in runs.items() if path is not None]
    missing = [f"--{stage}" for stage, path in runs.items() if path is None]
    alone = {"--sync-expert": args.sync_expert, "--convert": args.convert}
    chosen = [flag for flag, path in alone.items() if path is not None]
    if chosen and (given or len(chosen) > 1):
        raise UserError(
            f"{chosen[0]} makes a folder of its own: leave {', '.join([*given, *chosen[1:]])} out"
        )
    if args.convert is not None:
        from experiments.convert import convert

        log.info("%s: %s", convert(args.convert, args.output), args.output)
    elif args.sync_expert is not None:
        pack_sync_expert(args.sync_expert, args.output, half=not args.full)
        log.info("sync expert: %s", args.output)
    elif missing:
        raise UserError(f"a talking head needs all three stages: give {', '.join(missing)}, too")
    else:
        pack_model(args.autoencoder, args.statistics, args.diffusion, args.output, half=not args.full)
        log.info("model folder: %s", args.output)
    return 0


def pack_model(autoencoder: Path, statistics: Path, diffusion: Path, folder: Path, half: bool = True) -> None:
    """Write the model folder of three trained stages, each of a run or a model folder, with its model card.

    ``half`` writes matrices and kernels as float16.

    Raises:
        UserError: A run is missing or of another stage, or the runs don't belong together: stages 2 and 3 were trained on
            the motion of another autoencoder, in different motion bases or on different audio features.
    """
    import torch

    from lightning_modules.checkpoints import find_weights, load_network, motion_space_of
    from lightning_modules.diffusion.gaussian_diffusion import GaussianDiffusion
    from lightning_modules.generation.talking_head import write_model_folder
    from lightning_modules.networks.motion_basis import MotionBasis
    from lightning_modules.networks.registry import checked_arguments
    from lightning_modules.weights import load_state, part_of

    given = dict(zip(STAGES, (autoencoder, statistics, diffusion), strict=True))
    runs = {stage: find_weights(source, stage) for stage, source in given.items()}
    records = {stage: _record_of(path, stage) for stage, path in runs.items()}
    loaded = {stage: load_network(path) for stage, path in runs.items()}
    built: dict[str, Any] = {stage: network for stage, (network, _, _) in loaded.items()}
    motion_space = motion_space_of(built["autoencoder"])
    for stage in STAGES[1:]:
        if records[stage].motion_space != motion_space:
            raise UserError(
                f"{given[stage]}: trained on the motion of another autoencoder than {autoencoder} as it is now; give the "
                f"checkpoint of its training (config.yaml names it), or train {stage} anew by autoencoder={autoencoder}"
            )
    audio, other = (records[stage].audio or {} for stage in ("diffusion", "statistics"))
    if not _hear_alike(audio, other):
        raise UserError(f"{statistics} and {diffusion}: trained on different audio features")
    identity = audio.get("identity") or other.get("identity")
    first, second = (part_of(loaded[stage][2], "basis.") for stage in STAGES[1:])
    if first.keys() != second.keys() or not all(torch.equal(first[k], v) for k, v in second.items()):
        raise UserError(
            f"{statistics} and {diffusion}: trained in different motion bases; train both on one autoencoder"
        )
    basis = MotionBasis(built["autoencoder"].motion_dim, "bend" in second)
    load_state(basis, second, diffusion)
    settings = checked_arguments(
        GaussianDiffusion, records["diffusion"].diffusion or {}, f"{diffusion}: diffusion"
    )
    heard = str(audio["name"]), None if identity is None else str(identity)
    with whole_folder(folder) as temporary:
        write_model_folder(temporary, built, basis, GaussianDiffusion(**settings), *heard, half)
        weights = sum(parameter.numel() for network in built.values() for parameter in network.parameters())
        _write_card(
            temporary,
            folder.name,
            f"Talking-head model of ifmdm: {built['autoencoder'].size} px, 25 fps, {weights / 1e6:.1f} M parameters, hears "
            f"by {audio['name']}.\nUse: `ifmdm generate --model {folder.name} --image portrait.jpg --audio speech.wav "
            "--output video.mp4`",
            runs,
        )


def _hear_alike(audio: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two stages heard by the same front end, as far as their records tell: by its identity, else by its source."""
    if not audio.get("name") or audio["name"] != other.get("name"):
        return False
    for key in ("identity", "source"):
        if audio.get(key) and other.get(key):
            return bool(audio[key] == other[key])
    return True


def _record_of(run: Path, stage: str) -> Any:
    """Record of a run, which must be of that stage."""
    from lightning_modules.checkpoints import read_network_record

    record = read_network_record(run)
    if record.stage != stage:
        raise UserError(f"{run}: is a run of stage {record.stage!r:.40}, not {stage}")
    return record


def pack_sync_expert(run: Path, folder: Path, half: bool = True) -> None:
    """Write the judge of lip sync that a run (folder or checkpoint) of stage ``sync`` trained, with its model card.

    `metrics.judges.syncnet.load_expert` reads it. ``half`` writes matrices and kernels as float16.

    Raises:
        UserError: Missing or unreadable run, or a run of another stage.
    """
    from lightning_modules.checkpoints import load_network, write_json
    from lightning_modules.weights import write_weights
    from metrics.judges.syncnet import EXPERT_CONFIG, EXPERT_FORMAT, EXPERT_NAME, EXPERT_WEIGHTS

    _record_of(run, "sync")
    loaded, spec, _ = load_network(run)
    if spec["name"] != EXPERT_NAME:
        raise UserError(f"{run}: trained no SyncNet")
    network: Any = loaded
    settings = {"width": network.width, "size": network.size, "region": list(network.region)}
    weights = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    with whole_folder(folder) as temporary:
        write_weights(temporary / EXPERT_WEIGHTS, network, half)
        config = {"format": EXPERT_FORMAT, "network": {"name": EXPERT_NAME, **settings}}
        write_json(temporary / EXPERT_CONFIG, config)
        _write_card(
            temporary,
            folder.name,
            f"SyncNet of ifmdm: {network.size} px, 25 fps, {network.width:g} of the published width, {weights:.2f} M "
            "parameters. A judge of lip sync, never a loss; its distances can't be compared with those of the public "
            "SyncNet.",
            {"sync": run},
        )


def _write_card(folder: Path, name: str, text: str, runs: dict[str, Path]) -> None:
    """Write the model card ``README.md``: what it is, by which runs, trained for how long, with which last measures."""
    lines = [
        f"# {name}",
        "",
        text,
        "",
        "| stage | config hash | commit | steps | minutes of the run | its last validation |",
        "|---|---|---|---|---|---|",
        *(_card_row(stage, run) for stage, run in runs.items()),
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _card_row(stage: str, run: Path) -> str:
    from lightning_modules.checkpoints import find_checkpoint, read_checkpoint

    if run.suffix == ".safetensors":
        return _row(f"{stage}, of {run.absolute().parents[1].name}", {}, "?")
    run_dir = find_checkpoint(run).resolve().parents[1]
    record = read_plain_json(file_inside(run_dir, "run.json")) if (run_dir / "run.json").exists() else {}
    try:
        return _row(stage, record, read_checkpoint(run).get("global_step", "?"))
    except (TypeError, ValueError) as error:
        raise UserError(f"{run_dir / 'run.json'}: is no record of a run ({error})") from error


def _row(stage: str, record: dict[str, Any], steps: Any) -> str:
    identity, metrics = (dict(record.get(key) or {}) for key in ("identity", "metrics"))
    measures = ", ".join(
        f"{name.removeprefix('val/')} {float(metrics[name]):.3g}" for name in CARD_MEASURES if name in metrics
    )
    cells = [
        stage,
        identity.get("config_hash", "?"),
        str(identity.get("commit", "?"))[:10],
        steps,
        f"{float(record['seconds']) / 60:.0f}" if "seconds" in record else "?",
        measures or "?",
    ]
    plain = (" ".join(str(cell).replace("|", " ").split())[:MOST_CELL] for cell in cells)
    return "| " + " | ".join(plain) + " |"
