"""What torch needs to know of the operators: schemas, fake tensors, gradients, operations; and errors that show the way out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from affmae_kernels import (
    cluster_attention,
    deformable_attention,
    feed_forward,
    linear,
    masked_norm_gelu,
    nearest,
    relu_dropout,
    residual_norm,
    token_merge,
)
from affmae_kernels._kernel_error import KernelError
from affmae_kernels.attention.registered import cluster_attention_op
from affmae_kernels.deformable.registered import deformable_attention_op
from affmae_kernels.merging.registered import token_merge_op
from affmae_kernels.search.registered import nearest_op, site_index_op
from affmae_kernels.tiles.op import cluster_tiles_op
from torch.utils.flop_counter import FlopCounterMode

CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor")


def arguments(make: Any, device: torch.device) -> dict[str, tuple[Any, ...]]:
    def draw(*shape: int, seed: int, learns: bool = True) -> torch.Tensor:
        return make["draw"](*shape, seed=seed).float().to(device).requires_grad_(learns)

    place = make["places"](1, 9, 5).float().to(device)
    listed = make["clusters"](1, 9, 4, 2).to(device)
    heads = [draw(1, 9, 2, 4, seed=i) for i in range(3)]
    learned = (draw(2, 5, seed=4), draw(2, seed=5), draw(2, 4, seed=6), draw(2, 4, seed=7))
    norm = (draw(4, 5, seed=3), draw(4, seed=4), draw(4, seed=5), draw(4, seed=6))
    survivors = torch.tensor([[1, 5]], device=device)
    points = (draw(1, 3, 2, 4, 2, seed=2, learns=False) + 2).requires_grad_()
    return {
        "attention": (*heads, place, listed, 4, *learned, *cluster_tiles_op(listed, 4)),
        "attention to all": (*heads, place, None, 4, *learned, *(None,) * 6),
        "tiles": (listed, 4),
        "merge": (draw(1, 9, 6, seed=1), draw(1, 9, seed=2), place, survivors, listed, 4, *norm, 1e-5),
        "deformable": (
            heads[0],
            place,
            points,
            draw(1, 3, 2, 4, seed=3),
            draw(seed=8),
            [5, 5],
            *site_index_op(place, 4, [5, 5]),
        ),
        "nearest": (place + 0.3, place, 4, [5, 5]),
        "index": (place, 4, [5, 5]),
    }


@pytest.mark.parametrize(
    ("name", "op"),
    [
        ("attention", cluster_attention_op),
        ("attention to all", cluster_attention_op),
        ("tiles", cluster_tiles_op),
        ("merge", token_merge_op),
        ("deformable", deformable_attention_op),
        ("nearest", nearest_op),
        ("index", site_index_op),
    ],
)
def test_opcheck(name: str, op: Any, make: Any, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the checks make tensors of their own
    torch.library.opcheck(op, arguments(make, device)[name], test_utils=CHECKS)


def test_operations_are_counted(make: Any, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFMAE_KERNELS", "triton")
    given = arguments(make, device)
    counter = FlopCounterMode(display=False)
    with counter:
        cluster_attention(*given["attention"][:10]).sum().backward()
    forward = 4 * 9 * 2 * (2 * 4 + 1) * 4
    assert counter.get_total_flops() == forward + forward * 5 // 2
    with counter:
        token_merge(*given["merge"]).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 2 * (2 * 4) * 4 * 6
    with counter:
        deformable_attention(*given["deformable"][:6]).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * (3 * 2 * 4) * 4 * 4


def test_an_output_that_no_kernel_writes_shows(device: torch.device) -> None:
    rows = torch.zeros(3, 4, device=device)
    for fresh in (torch.empty(3, 4, device=device), torch.empty_like(rows)):
        assert fresh.isnan().all()
    assert (torch.empty_like(rows, dtype=torch.int32) == torch.iinfo(torch.int32).max).all()


DIFFERENTIABLE = {
    "cluster_attention": lambda given, rows, weight, bias: cluster_attention(*given["attention"][:10]),
    "token_merge": lambda given, rows, weight, bias: token_merge(*given["merge"]),
    "deformable_attention": lambda given, rows, weight, bias: deformable_attention(*given["deformable"][:6]),
    "residual_norm": lambda given, rows, weight, bias: residual_norm(rows, rows, bias, bias)[1],
    "masked_norm_gelu": lambda given, rows, weight, bias: masked_norm_gelu(rows, None, bias, bias),
    "relu_dropout": lambda given, rows, weight, bias: relu_dropout(rows, 0.0),
    "linear": lambda given, rows, weight, bias: linear(rows, weight, bias),
    "feed_forward": lambda given, rows, weight, bias: feed_forward(rows, weight, bias, weight, None, "gelu"),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_second_derivatives_are_refused(name: str, make: Any, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFMAE_KERNELS", "triton")
    given = arguments(make, device)
    rows, weight, bias = (make["draw"](*shape, seed=9).float().to(device).requires_grad_() for shape in ((9, 6), (6, 6), (6,)))
    features = [rows, *(given[kind][0] for kind in ("attention", "merge", "deformable"))]
    # Beside a path that can be differentiated twice, a derivative that is missing would go unseen.
    output = sum(feature.pow(3).sum() for feature in features) + DIFFERENTIABLE[name](given, rows, weight, bias).square().sum()

    def second() -> None:
        slopes = torch.autograd.grad(output, features, create_graph=True)
        torch.autograd.grad(sum(slope.square().sum() for slope in slopes), features)

    with pytest.raises(RuntimeError, match=r"Trying to backward through affmae|cannot be differentiated twice"):
        second()


def test_a_kernel_that_fails_says_which_and_what_to_do(
    make: Any, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_order(*_: Any, **__: Any) -> None:
        raise RuntimeError("device lost")

    import affmae_kernels.search.triton_kernels as kernels

    monkeypatch.setenv("AFFMAE_KERNELS", "triton")
    monkeypatch.setattr(kernels, "_search_all", {(1, 1): out_of_order})
    with pytest.raises(KernelError, match=r"kernel of nearest failed .*device lost.*AFFMAE_KERNELS=pytorch"):
        nearest(torch.zeros(1, 3, 2, device=device), torch.zeros(1, 3, 2, device=device), 2)


def test_autocast_decides_the_precision_of_features(make: Any, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    given = arguments(make, device)["deformable"][:6]
    for implementation in ("pytorch", "triton"):
        monkeypatch.setenv("AFFMAE_KERNELS", implementation)
        with torch.autocast(device.type, torch.bfloat16):
            assert deformable_attention(*given).dtype == torch.bfloat16
