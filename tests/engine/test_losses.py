"""Only painted pixels count, and rare classes count enough."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from napari_affmae.engine.losses import class_weights, finetune_loss, masked_cross_entropy, painted_per_tile, soft_dice_loss
from napari_affmae.model.segmenter import SegmenterOutput


def example() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 8, 8, generator=generator, requires_grad=True)
    targets = torch.randint(-1, 3, (2, 8, 8), generator=generator)
    return logits, targets


def outputs(logits: torch.Tensor) -> SegmenterOutput:
    return SegmenterOutput(logits=logits, aux={"res5": logits * 0.5, "res4": logits * 2})


def test_pixels_without_paint_have_no_gradient() -> None:
    logits, targets = example()
    loss, _ = finetune_loss(outputs(logits), targets, torch.ones(3))
    loss.backward()
    assert logits.grad is not None
    painted = (targets >= 0).unsqueeze(1).expand_as(logits)
    assert (logits.grad[~painted] == 0).all()
    assert (logits.grad[painted] != 0).all()


def test_the_total_is_the_weighted_sum_of_heads() -> None:
    logits, targets = example()
    loss, parts = finetune_loss(outputs(logits), targets, torch.tensor([1.0, 2.0, 0.5]))
    assert loss.item() == pytest.approx((parts["res2"] + 0.12 * parts["res4"] + 0.05 * parts["res5"]).item())
    assert parts["res2"].item() == pytest.approx((parts["cross_entropy"] + parts["dice"]).item())


def test_cross_entropy_is_per_painted_pixel() -> None:
    logits, targets = example()
    painted = targets >= 0
    expected = functional.cross_entropy(logits.movedim(1, -1)[painted], targets[painted])
    torch.testing.assert_close(masked_cross_entropy(logits, targets, torch.ones(3)), expected)


def test_nothing_painted_is_no_loss() -> None:
    logits, targets = example()
    loss, _ = finetune_loss(outputs(logits), torch.full_like(targets, -1), torch.ones(3))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_dice_is_0_for_the_truth_and_ignores_absent_classes() -> None:
    targets = torch.zeros(1, 40, 40, dtype=torch.int64)
    targets[:, :20] = 1
    truth = functional.one_hot(targets, 4).movedim(-1, 1).float() * 40
    assert soft_dice_loss(truth, targets).item() == pytest.approx(0, abs=1e-5)
    assert soft_dice_loss(-truth, targets).item() > 0.9


def test_dice_of_a_few_pixels_is_gentle() -> None:
    logits = torch.zeros(1, 2, 64, 64, requires_grad=True)
    targets = torch.full((1, 64, 64), -1)
    targets[0, 0, 0] = 1
    loss = soft_dice_loss(logits, targets)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 0.1


def test_weights_favour_rare_classes_but_not_without_limit() -> None:
    weights = class_weights(np.array([10_000, 2_500, 1, 0]))
    assert (weights[1] / weights[0]).item() == pytest.approx(2)
    assert (weights[2] / weights[0]).item() == pytest.approx(5)
    counts = torch.tensor([10_000, 2_500, 1, 0])
    assert ((weights * counts).sum() / counts.sum()).item() == pytest.approx(1)
    assert torch.equal(class_weights(np.array([5, 5])), torch.ones(2))


def test_focus_is_cross_entropy_at_zero_and_forgets_what_is_known() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randint(-1, 3, (2, 4, 4))
    weights = torch.tensor([1.0, 2.0, 0.5])
    plain = masked_cross_entropy(logits, targets, weights)
    torch.testing.assert_close(masked_cross_entropy(logits, targets, weights, focus=1e-9), plain)
    painted = targets >= 0
    p = logits.softmax(1).gather(1, targets.clamp_min(0)[:, None])[:, 0][painted]
    expected = (weights[targets[painted]] * (1 - p) ** 2 * -p.log()).sum() / painted.sum()
    focused = masked_cross_entropy(logits, targets, weights, focus=2.0)
    torch.testing.assert_close(focused, expected)
    (gradient,) = torch.autograd.grad(masked_cross_entropy(1e3 * logits, targets, weights, focus=2.0), logits)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("focus", [0.0, 2.0])
def test_the_cross_entropy_of_parts_adds_up_to_that_of_the_batch_however_paint_is_spread(focus: float) -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(4, 3, 8, 8, requires_grad=True), torch.randint(0, 3, (4, 8, 8))
    targets[1:] = -1
    targets[1, 0, 0], targets[2, :2] = 2, 1  # one tile is full, one has a pixel, one a bit, and one nothing
    weights, per_tile = torch.tensor([1.0, 2.0, 0.5]), painted_per_tile(targets)
    whole = masked_cross_entropy(logits, targets, weights, focus)
    torch.testing.assert_close(masked_cross_entropy(logits, targets, weights, focus, per_tile), whole)
    parts = [
        masked_cross_entropy(logits[n : n + 1], targets[n : n + 1], weights, focus, per_tile[n : n + 1]) / 4 for n in range(4)
    ]
    torch.testing.assert_close(torch.stack(parts).sum(), whole)
    (wanted,) = torch.autograd.grad(whole, logits, retain_graph=True)
    (got,) = torch.autograd.grad(torch.stack(parts).sum(), logits)
    torch.testing.assert_close(got, wanted)
