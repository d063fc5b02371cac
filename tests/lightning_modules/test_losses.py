"""The loss terms of stage 1: what each is low for, and what it leaves out."""

import copy
import logging

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models import VGG19_Weights

from datamodules.batches import POSE_NAMES, FramePairBatch
from datamodules.errors import UserError
from lightning_modules.losses.base import RenderedPairs, evaluate_terms
from lightning_modules.losses.face import (
    MouthLoss,
    PlaceLoss,
    PoseLoss,
    centre_l1,
    inside_weights,
)
from lightning_modules.losses.flow import FoldLoss, LandmarkLoss, OcclusionLoss, PersonLoss
from lightning_modules.losses.perceptual import FaceFeatureLoss, PerceptualLoss, UnitFeatures, VGGFeatures
from lightning_modules.losses.reconstruction import (
    EdgeLoss,
    L1Loss,
    WarpLoss,
    gradient_l1,
    pyramid_l1,
    region_weights,
)
from lightning_modules.networks.base_renderer import DecoderOutput, SourceEncoding

SIZE = 32
BOXES = torch.tensor([[[0.2, 0.5, 0.8, 0.9], [0.2, 0.2, 0.4, 0.4], [0.6, 0.2, 0.8, 0.4]]] * 2)


def batch(**fields: Tensor) -> FramePairBatch:
    frames = torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    points = fields.get("landmarks", torch.zeros(2, 2, 0, 2))
    known = {
        "regions": BOXES,
        "landmarks": points,
        "pose": torch.zeros(2, 2, 0),
        "person": torch.zeros(2, 2, 0, 0),
    }
    known["visible"] = torch.full(points.shape[:3], torch.nan)
    return FramePairBatch(frames[:2], frames[2:], **{"shown": frames[2:]} | known | fields)


def rendered(frame: Tensor, **fields: Tensor) -> RenderedPairs:
    motion = torch.linspace(-1, 1, 8).view(2, 4)
    return RenderedPairs(SourceEncoding(frame, -motion, motion, ()), motion, DecoderOutput(frame, **fields))


def landmark_loss(flow: Tensor, landmarks: Tensor) -> Tensor:
    """The loss of a backward flow, of landmarks of source and driving frame."""
    pair = batch(landmarks=landmarks, regions=torch.zeros(len(landmarks), 3, 4))
    return LandmarkLoss()(rendered(batch().source, flow=flow), pair)


def test_region_weights_lift_the_box_and_keep_the_mean():
    regions = torch.tensor([[[0.25, 0.5, 0.75, 1.0]], [[0.0, 0.0, 0.0, 0.0]]])
    weights = region_weights(regions, 16, gain=7.0)
    assert torch.allclose(weights.mean((2, 3)), torch.ones(2, 1), atol=1e-6)
    assert weights[0, 0, 12, 8] / weights[0, 0, 0, 0] == pytest.approx(8.0)
    assert torch.allclose(weights[1], torch.ones(1, 16, 16))


def test_weights_inside_a_box_weigh_pictures_alike_and_nothing_else():
    boxes = torch.tensor([[0.25, 0.5, 0.5, 0.75], [0.1, 0.1, 0.9, 0.9], [0.3, 0.3, 0.3, 0.3]])
    weights = inside_weights(boxes, SIZE)
    assert torch.allclose(weights.mean((1, 2, 3)), torch.tensor([1.0, 1.0, 0.0]), atol=1e-5)
    assert (weights[0, 0] > 0).sum() == 64
    assert weights[0, 0, 16:24, 8:16].min() == 16


def test_pixel_losses_vanish_at_the_target_and_one_level_is_plain_l1():
    pair = batch()
    for term in (L1Loss(levels=3), EdgeLoss(), WarpLoss(), MouthLoss()):
        assert term(rendered(pair.driving, warped=pair.driving), pair) == 0
        assert term(rendered(pair.source, warped=pair.source), pair) > 0
    plain = L1Loss()(rendered(pair.source), pair)
    torch.testing.assert_close(plain, F.l1_loss(pair.source, pair.driving))
    assert L1Loss(region_gain=5.0)(rendered(pair.source), pair) != plain
    ones = torch.ones(2, 1, SIZE, SIZE)
    assert gradient_l1(pair.source, pair.source + 0.3, ones) == pytest.approx(0, abs=1e-6)
    assert pyramid_l1(pair.source, pair.driving, ones, 3) != plain


def test_terms_are_summed_by_weight_and_unknown_ones_left_out():
    pair = batch()
    terms = torch.nn.ModuleDict({"l1": L1Loss(2.0), "edge": EdgeLoss(0.5), "landmark": LandmarkLoss(9.0)})
    values = evaluate_terms(terms, rendered(pair.source, flow=torch.zeros(2, 2, 16, 16)), pair)
    assert set(values) == {"l1", "edge", "loss"}  # the batch has no landmarks
    torch.testing.assert_close(values["loss"], 2 * values["l1"] + 0.5 * values["edge"])


def test_a_renderer_without_flow_is_told_which_losses_to_leave_out():
    terms = torch.nn.ModuleDict({"l1": L1Loss(), "warp": WarpLoss(), "landmark": LandmarkLoss()})
    with pytest.raises(UserError, match=r"set model\.losses\.warp=null model\.losses\.landmark=null$"):
        evaluate_terms(terms, rendered(batch().source), batch())


def test_the_mouth_weighs_by_its_own_box_alone():
    pair, pairs = batch(), rendered(batch().source)
    loss = MouthLoss()(pairs, pair)
    eyes_elsewhere = BOXES.clone()
    eyes_elsewhere[:, 1:] = torch.tensor([0.0, 0.0, 0.1, 0.1])
    assert torch.equal(MouthLoss()(pairs, pair._replace(regions=eyes_elsewhere)), loss)
    assert MouthLoss()(pairs, pair._replace(regions=torch.zeros(2, 3, 4))) == 0
    first_alone = pair._replace(regions=BOXES * torch.tensor([1.0, 0.0])[:, None, None])
    one = FramePairBatch(*(field[:1] for field in pair))
    torch.testing.assert_close(MouthLoss()(pairs, first_alone), MouthLoss()(rendered(one.source), one))
    assert MouthLoss(edges=0.0)(pairs, pair) < loss


def test_the_place_of_the_mouth_is_the_middle_of_its_box():
    found = torch.tensor([[0.4, 0.6], [0.1, 0.1]], requires_grad=True)
    boxes = torch.tensor([[0.2, 0.6, 0.4, 0.8], [0.0, 0.0, 0.0, 0.0]])
    assert centre_l1(found, boxes).item() == pytest.approx((0.1 + 0.1) / 2)
    assert centre_l1(found, torch.zeros(2, 4)) == 0
    pair = batch(regions=boxes[:, None].expand(-1, 3, -1))
    PlaceLoss()(rendered(pair.source, places=found[:, None]), pair).backward()
    assert found.grad[0].abs().min() > 0
    assert not found.grad[1].any()
    assert PlaceLoss()(rendered(pair.source), pair) is None  # nobody looks for it


def test_pose_is_read_off_both_motions_where_it_is_known():
    term = PoseLoss(4)
    pairs = rendered(batch().source)
    both = torch.stack([pairs.source.motion, pairs.motion], dim=1)
    true = term.readout(both).detach()
    holed = true + 1
    holed[0, :, 2:] = torch.nan
    assert term(pairs, batch(pose=true)) == 0
    loss = term(pairs, batch(pose=holed))
    assert loss.item() == pytest.approx(1, rel=1e-5)
    loss.backward()
    assert term.readout.weight.grad.isfinite().all()
    assert term(pairs, batch()) is None
    gained = PoseLoss(4, face_gain=5.0)
    gained.readout.load_state_dict(term.readout.state_dict())
    for name, error in (("yaw", 1 / 8), ("lip_width", 5 / 8), ("blink", 5 / 8)):
        off = true.clone()
        off[..., POSE_NAMES.index(name)] += 1
        assert gained(pairs, batch(pose=off)).item() == pytest.approx(error, rel=1e-5)


def test_landmark_flow_is_zero_for_the_true_flow_and_leads_there():
    source, driving = torch.rand(1, 1, 9, 2) * 0.5 + 0.25, torch.tensor([0.1, -0.05])
    landmarks = torch.cat([source, source + driving], dim=1)
    exact = (-driving * 2)[None, :, None, None].expand(1, 2, 32, 32).clone()
    assert landmark_loss(exact, landmarks) < 1e-5
    flow = torch.zeros(1, 2, 32, 32, requires_grad=True)
    landmark_loss(flow, landmarks).backward()
    assert flow.grad[:, 0].sum() > 0  # a step against the gradient moves towards ``exact``
    assert flow.grad[:, 1].sum() < 0


def test_lips_that_part_count_wherever_the_mouth_is():
    """A mouth that is all of it in the wrong place costs nothing by its shape; one whose lips stay together does."""
    rows = torch.tensor([0.60, 0.62, 0.70, 0.72])
    driving = torch.stack([torch.full_like(rows, 0.5), rows], dim=-1)[None]
    boxes = torch.tensor([[[0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 0.0, 0.0]]])
    costs = []
    for source in (driving + 0.1, driving - torch.tensor([0.0, 0.0, 0.06, 0.06])[None, :, None]):
        landmarks = torch.stack([source, driving], dim=1)
        pair = batch(landmarks=landmarks, visible=torch.ones(1, 2, 4), regions=boxes)
        still = rendered(batch().source, flow=torch.zeros(1, 2, 32, 32))
        costs.append(LandmarkLoss(shape=1.0)(still, pair) - LandmarkLoss()(still, pair))
    assert costs[0] == pytest.approx(0.0, abs=1e-6)
    assert costs[1] == pytest.approx(
        0.06, rel=1e-4
    )  # half of what two of four are off by, in half picture widths


def test_unknown_landmarks_count_nothing():
    landmarks = torch.rand(3, 2, 4, 2)
    holed = landmarks.clone()
    holed[0, 0, 1, 0] = torch.nan  # unknown in one frame
    holed[1, :, 2:] = torch.nan
    holed[2] = torch.nan
    flow = torch.rand(3, 2, 16, 16, requires_grad=True)
    loss = landmark_loss(flow, holed)
    parts = [  # the same points without the holes
        (landmark_loss(flow[:1], landmarks[:1, :, [0, 2, 3]]), 3),
        (landmark_loss(flow[1:2], landmarks[1:2, :, :2]), 2),
    ]
    torch.testing.assert_close(loss, sum(part * count for part, count in parts) / 5)
    loss.backward()
    assert flow.grad.isfinite().all()
    assert flow.grad[:2].abs().sum(dim=(1, 2, 3)).gt(0).all()
    assert not flow.grad[2].any()
    assert landmark_loss(flow, torch.full((3, 2, 4, 2), torch.nan)) == 0


def test_what_is_hidden_leads_no_flow_and_says_where_to_paint():
    landmarks = torch.rand(2, 2, 6, 2, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2
    visible = torch.ones(2, 2, 6)
    visible[:, 0, :3] = 0  # not seen in the source
    seen = landmarks[:, :, 3:]
    flow = torch.randn(2, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 0.1
    hidden = LandmarkLoss()(rendered(batch().source, flow=flow), batch(landmarks=landmarks, visible=visible))
    torch.testing.assert_close(hidden, landmark_loss(flow, seen))

    mask = torch.full((2, 1, SIZE, SIZE), 0.5, requires_grad=True)
    shown = torch.full((2, 1, SIZE, SIZE), 0.5, requires_grad=True)
    pair = batch(landmarks=landmarks, visible=visible)
    OcclusionLoss()(rendered(pair.source, mask=mask, shown=shown), pair).backward()
    torch.testing.assert_close(mask.grad, shown.grad)  # both are to know
    places = (landmarks[:, 1] * SIZE).long()
    for item, point in ((0, 0), (1, 2), (0, 3), (1, 5)):
        column, row = places[item, point]
        step = mask.grad[item, 0, row - 1 : row + 2, column - 1 : column + 2].sum()  # down where it is hidden
        assert (step > 0) == (point < 3)
    unknown = batch(landmarks=landmarks)
    assert OcclusionLoss()(rendered(pair.source, mask=mask, shown=shown), unknown) == 0
    assert OcclusionLoss()(rendered(pair.source, mask=mask, shown=shown), batch()) is None


def test_points_of_mouth_and_eyes_may_weigh_more():
    flow = torch.zeros(2, 2, SIZE, SIZE)
    points = torch.full((2, 2, 2, 2), 0.05)
    points[:, :, 1] = BOXES[0, 0].view(2, 2).mean(0)
    for moved, share in ((0, 1 / 6), (1, 5 / 6)):
        landmarks = points.clone()
        landmarks[:, 0, moved] += 0.1
        pairs, pair = rendered(batch().source, flow=flow), batch(landmarks=landmarks)
        assert LandmarkLoss()(pairs, pair).item() == pytest.approx(0.2 / 2)
        assert LandmarkLoss(region_gain=4.0)(pairs, pair).item() == pytest.approx(0.2 * share)


def test_the_mask_of_the_person_is_that_of_the_driving_frame_where_it_is_known():
    person = torch.rand(2, 2, 8, 8, generator=torch.Generator().manual_seed(0)).round()
    exact = F.interpolate(person[:, 1:], (SIZE, SIZE)).requires_grad_()
    pair = batch(person=person)
    assert PersonLoss()(rendered(pair.source, person=exact), pair) < 1e-3
    wrong = PersonLoss()(rendered(pair.source, person=1 - exact), pair)
    assert wrong > 5
    smaller = F.interpolate(person[:, :1], (4, 4), mode="area")
    both = rendered(pair.source, person=exact, stood=smaller)
    soft = -(smaller * smaller.clamp(1e-4).log() + (1 - smaller) * (1 - smaller).clamp(1e-4).log()).mean()
    assert PersonLoss()(both, pair).item() == pytest.approx(soft.item() / 2, abs=1e-2)
    assert PersonLoss()(rendered(pair.source, person=exact, stood=1 - smaller), pair) > soft / 2 + 0.1
    holed = person.clone()
    holed[1] = torch.nan
    half = PersonLoss()(rendered(pair.source, person=1 - exact), batch(person=holed))
    half.backward()
    torch.testing.assert_close(half, wrong, atol=1e-3, rtol=0)  # a mean over what is known
    assert exact.grad.isfinite().all()
    assert not exact.grad[1].any()
    assert PersonLoss()(rendered(pair.source, person=exact), batch()) is None


def test_a_flow_that_folds_costs_and_one_that_moves_the_picture_does_not():
    moved = torch.full((1, 2, 64, 64), 0.3)
    centres = (torch.arange(64) + 0.5) / 32 - 1
    turned = torch.stack([-2 * centres.expand(64, 64), torch.zeros(64, 64)])[None]  # mirrors the portrait
    squeezed = turned / 4
    costs = [
        FoldLoss(smoothness=0.0)(rendered(batch().source, flow=one), batch())
        for one in (moved, squeezed, turned)
    ]
    assert costs[0] == costs[1] == 0
    assert costs[2] == pytest.approx(1.1, rel=1e-3)  # its area is -1, a tenth is wanted
    assert FoldLoss()(rendered(batch().source, flow=moved), batch()) == 0
    assert FoldLoss()(rendered(batch().source, flow=squeezed), batch()) > 0
    large = F.interpolate(turned, (256, 256), mode="bilinear", align_corners=False)
    assert FoldLoss(smoothness=0.0)(rendered(batch().source, flow=large), batch()) == pytest.approx(
        1.1, rel=0.05
    )


def test_lips_may_part_by_a_flow_that_is_not_smooth():
    flow = torch.zeros(1, 2, 64, 64)
    flow[:, 1, 40:48, 20:44] = 0.1
    pairs, boxes = rendered(batch().source, flow=flow), torch.tensor([[[0.25, 0.5, 0.75, 0.9]]])
    free, held = (batch(regions=one) for one in (boxes, torch.zeros(1, 1, 4)))
    assert FoldLoss()(pairs, free) == FoldLoss()(pairs, held) > 0
    whole = FoldLoss(region_share=0.1)
    assert whole(pairs, free) == pytest.approx(0.1 * whole(pairs, held).item(), rel=1e-4)


def test_the_perceptual_judge_is_no_part_of_the_model_and_follows_its_type():
    pair, perceptual = batch(), PerceptualLoss(VGGFeatures("random"))
    assert not perceptual.state_dict()
    assert not list(perceptual.parameters())
    assert copy.deepcopy(perceptual)._shared is perceptual._shared
    frame = pair.source.clone().requires_grad_(True)
    single = perceptual(rendered(frame), pair)
    single.backward()
    assert frame.grad.abs().sum() > 0
    assert perceptual(rendered(pair.driving), pair) == 0
    perceptual.double()
    double = perceptual.distance(pair.source.double(), pair.driving.double())
    assert double.dtype == torch.float64
    assert double.item() == pytest.approx(single.item(), rel=1e-4)
    copy.deepcopy(perceptual).to("meta")  # what becomes of a copy is nothing to the original
    perceptual.float()
    assert perceptual(rendered(pair.source), pair).item() == pytest.approx(single.item(), rel=1e-6)


def test_a_sum_over_depths_and_scales_is_their_mean_times_their_number():
    pair, features = batch(), VGGFeatures("random", "relu_1")
    mean, total = (
        PerceptualLoss(features, levels=2, total=total)(rendered(pair.source), pair)
        for total in (False, True)
    )
    torch.testing.assert_close(total, 10 * mean)


def test_features_without_a_download_mind_blur_more_than_brightness():
    """As a perceptual loss should; the pixels say the opposite."""
    pytest.importorskip("efficientnet_lite_pytorch")
    sharp = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8
    blurred, brighter = F.avg_pool2d(sharp, 3, 1, 1), (sharp + 0.35).clamp(max=1)
    loss = PerceptualLoss(UnitFeatures())
    assert loss.distance(blurred, sharp) > 1.5 * loss.distance(brighter, sharp)
    worse = [float(loss.distance(F.avg_pool2d(sharp, size, 1, size // 2), sharp)) for size in (1, 3, 5, 7)]
    assert worse == sorted(worse)
    assert worse[0] == 0


def test_a_closer_look_is_at_mouth_and_eyes_and_large_pictures_may_be_looked_at_smaller():
    pair, features = batch(), VGGFeatures("random")
    low, high = (SIZE * BOXES[0, 0]).round().long().split(2)
    for at, counts in (((low + high) // 2, True), (torch.tensor([1, 1]), False)):
        frame = pair.driving.clone()
        frame[0, :, at[1], at[0]] *= -1
        assert bool(FaceFeatureLoss(features, side=32)(rendered(frame), pair) > 0) is counts
    whole, smaller = (
        PerceptualLoss(features, side=side)(rendered(pair.source), pair) for side in (None, SIZE // 2)
    )
    halves = (F.avg_pool2d(one, 2) for one in (pair.source, pair.driving))
    torch.testing.assert_close(smaller, PerceptualLoss(features).distance(*halves))
    assert whole != smaller


def test_nothing_big_is_downloaded_without_a_word(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    asked = []

    def download(*args, **options):
        asked.append(caplog.messages[:])
        raise OSError("no network")

    monkeypatch.setattr(VGG19_Weights, "get_state_dict", download)
    with caplog.at_level(logging.INFO), pytest.raises(UserError, match=r"vgg19-dcbb9e9d\.pth is not there"):
        VGGFeatures()
    assert not asked
    with caplog.at_level(logging.INFO), pytest.raises(UserError, match="no network"):
        VGGFeatures("torchvision")
    assert len(asked) == 1
    assert "downloading 575 MB" in asked[0][0]
    (tmp_path / "odd.pth").write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"odd\.pth"):
        VGGFeatures(str(tmp_path / "odd.pth"))
