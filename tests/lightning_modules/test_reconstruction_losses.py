"""The flow error at landmarks where not all of them are known."""

import torch

from lightning_modules.losses.reconstruction import landmark_flow_l1


def test_unknown_landmarks_count_nothing():
    landmarks = torch.rand(3, 2, 4, 2)
    holed = landmarks.clone()
    holed[0, 0, 1, 0] = torch.nan  # unknown in one frame
    holed[1, :, 2:] = torch.nan
    holed[2] = torch.nan
    flow = torch.rand(3, 2, 16, 16, requires_grad=True)
    loss = landmark_flow_l1(flow, holed)
    parts = [  # the same points without the holes
        (landmark_flow_l1(flow[:1], landmarks[:1, :, [0, 2, 3]]), 3),
        (landmark_flow_l1(flow[1:2], landmarks[1:2, :, :2]), 2),
    ]
    torch.testing.assert_close(loss, sum(part * count for part, count in parts) / 5)
    loss.backward()
    assert flow.grad.isfinite().all()
    assert flow.grad[:2].abs().sum(dim=(1, 2, 3)).gt(0).all()
    assert not flow.grad[2].any()


def test_no_known_landmark_gives_zero_and_no_gradient():
    flow = torch.rand(2, 2, 16, 16, requires_grad=True)
    loss = landmark_flow_l1(flow, torch.full((2, 2, 4, 2), torch.nan))
    loss.backward()
    assert loss == 0
    assert not flow.grad.any()
