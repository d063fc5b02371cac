"""Measures while a model trains: those of the registry, with the functions, settings and judges of an evaluation."""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from metrics.base import ClipMean
from metrics.evaluation.clip_measures import still_detections
from metrics.evaluation.inputs import FrameInputs
from metrics.evaluation.judges import Judges
from metrics.evaluation.protocol import Protocol
from metrics.evaluation.registry import FEATURE_SLOTS, Kind, Measure, is_lag, values_of
from metrics.fid import extract_features

VIEWED: tuple[Kind, ...] = ("row", "frame_pairs", "clip_pair", "distribution", "syncnet")
CLIP_KINDS = {*VIEWED, "pictures", "windows"}
_BATCH = 32
log = logging.getLogger(__name__)


class TrainingMeasures:
    """Some measures, whose judges are there, of what a model in training renders: of whole clips, or of pictures alone.

    Attributes:
        metrics: By the measure's name: its own over pictures or distributions, the mean over clips of all others.
    """

    def __init__(
        self, measures: Sequence[Measure], protocol: Protocol, judges: Judges, clips: bool = True
    ) -> None:
        self.measures, self.protocol, self.judges = list(measures), protocol, judges
        self.metrics: dict[str, Metric] = {
            one.name: ClipMean(median=is_lag(one.name))
            if clips and one.kind == "frame_pairs"
            else one.new_metric(protocol, judges)
            for one in measures
        }

    def _of(self, *kinds: Kind) -> list[Measure]:
        return [one for one in self.measures if one.kind in kinds]

    def move(self, device: torch.device | str) -> None:
        """Bring judges and states to a device."""
        judges = self.judges
        features = [getattr(judges, slot) for slot in FEATURE_SLOTS]
        networks = (*features, judges.lpips, getattr(judges.sync, "network", None))
        with torch.inference_mode(False):  # parameters moved within it could not be used outside
            for module in (*networks, *self.metrics.values()):
                if module is not None:
                    module.to(device)

    def release(self) -> None:
        """Forget what was added, and leave the device to the training."""
        for metric in self.metrics.values():
            metric.reset()
        self.move("cpu")

    def compute(self) -> dict[str, float]:
        """Values by name over what all processes have added, the same on each; NaN where nothing could be judged."""
        return {name: float(metric.compute()) for name, metric in self.metrics.items()}

    def add_pictures(self, real: Tensor, rendered: Tensor) -> None:
        """Add pictures ``(N, 3, H, W)``, uint8 or float in [-1, 1], and those that they should look like."""
        self._add_features("pictures", real, rendered)
        for one in self._of("frame_pairs"):
            metric = self.metrics[one.name]
            metric.update(rendered.to(metric.device), real.to(metric.device))

    def add_clip(self, real: Tensor, rendered: Tensor, waveform: Tensor, windows: Sequence[int] = ()) -> None:
        """Add one clip: frames ``(T, 3, H, W)`` uint8, speech ``(640 T,)``, first frames of the windows for FVD."""
        self._add_features("pictures", real, rendered)
        if windows:
            length = self.protocol.fvd.length
            cut = (torch.stack([clip[at : at + length] for at in windows]) for clip in (real, rendered))
            self._add_features("windows", *cut)
        if not self._of(*VIEWED):
            return
        inputs = self._look(real, rendered)
        values = values_of(self._of("row", "clip_pair"), inputs)
        values |= values_of(self._of("frame_pairs"), inputs.part(slice(1, None)))  # all but the source
        if self._of("syncnet") and self.judges.sync is not None:
            try:
                speech = [waveform.cpu().numpy()]
                values |= self.judges.sync(inputs.row.frames, inputs.row.landmarks, speech, self.protocol)[0]
            except ValueError as error:  # what an early model renders may be no face
                log.warning("a clip is not judged for lip sync: %s", error)
        for one in self._of("row", "frame_pairs", "clip_pair", "syncnet"):
            if one.name in values:
                self.metrics[one.name].update(values[one.name])
        for one in self._of("distribution"):
            for side, is_real in ((inputs.real, True), (inputs.row, False)):
                rows = one.ask(FrameInputs(self.protocol, self.judges, side, inputs.real))
                self.metrics[one.name].update(torch.from_numpy(rows), real=is_real)

    def _look(self, real: Tensor, rendered: Tensor) -> FrameInputs:
        """What the judges of single frames see in a clip, as far as it is asked for."""
        shown, true = (
            np.ascontiguousarray(clip.cpu().permute(0, 2, 3, 1).numpy()) for clip in (rendered, real)
        )
        view = self.judges.detect(shown, self.protocol)
        compared = self._of("frame_pairs", "clip_pair", "distribution") or self.judges.embed
        held = self.judges.detect(true, self.protocol) if compared else view
        floor = still_detections(true, self.judges, self.protocol) if "jitter" in self.metrics else None
        return FrameInputs(self.protocol, self.judges, view, held, held.source, floor)

    def _add_features(self, kind: Kind, real: Tensor, rendered: Tensor) -> None:
        """One pass of each network for all measures of its features."""
        for slot in dict.fromkeys(one.judges[0] for one in self._of(kind)):
            network = getattr(self.judges, slot)
            asked = [self.metrics[one.name] for one in self._of(kind) if one.judges[0] == slot]
            for images, is_real in ((real, True), (rendered, False)) if network is not None else ():
                for part in images.split(_BATCH if kind == "pictures" else 1):
                    features = extract_features(network, part.to(asked[0].device))
                    for metric in asked:
                        metric.update(features, real=is_real)
