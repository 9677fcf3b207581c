"""The passes over rows: residual norm, masked norm with GELU, ReLU with dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import affmae_kernels
import pytest
import torch
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
Make = dict[str, Callable[..., Any]]


def both_results(**given: Any) -> Tensor:
    total, normed = affmae_kernels.residual_norm(**given)
    return torch.cat((total.flatten().to(normed.dtype), normed.flatten()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 96), (3, 5, 48), (2, 67, 100), (2, 7, 3, 512), (2, 1, 1536), (2, 0, 48), (0, 3, 48)])
def test_residual_norm(check: Any, make: Make, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    dim = shape[-1]
    given = {
        "residual": make["draw"](*shape, seed=1) + 3,
        "branch": make["draw"](*shape, seed=2),
        "weight": make["draw"](dim, seed=3),
        "bias": make["draw"](dim, seed=4),
        "branch_bias": make["draw"](dim, seed=5),
        "scale": make["draw"](shape[0], seed=6).abs(),
    }
    check((both_results, given, ("residual", "branch", "weight", "bias", "branch_bias"), ("residual", "branch")), dtype)


@pytest.mark.parametrize("missing", ["branch", "branch_bias", "scale"])
def test_residual_norm_without(check: Any, make: Make, missing: str) -> None:
    given = {
        "residual": make["draw"](2, 40, 96, seed=1),
        "branch": make["draw"](2, 40, 96, seed=2),
        "weight": make["draw"](96, seed=3),
        "bias": make["draw"](96, seed=4),
        "branch_bias": make["draw"](96, seed=5),
        "scale": make["draw"](2, seed=6).abs(),
    }
    gone = ("branch", "branch_bias", "scale") if missing == "branch" else (missing,)
    given = {name: None if name in gone else value for name, value in given.items()}
    learned = tuple(name for name in ("residual", "branch", "weight", "bias", "branch_bias") if given[name] is not None)
    check((both_results, given, learned, tuple(name for name in ("residual", "branch") if name in learned)), torch.float32)


def test_residual_norm_of_constant_rows(check: Any, make: Make) -> None:
    given = {
        "residual": torch.full((1, 4, 32), 1e4, dtype=torch.float64),
        "branch": torch.zeros(1, 4, 32, dtype=torch.float64),
        "weight": make["draw"](32, seed=3),
        "bias": make["draw"](32, seed=4),
    }
    check((both_results, given, ("weight", "bias"), ("residual", "branch")), torch.float32)


def test_residual_norm_drops_the_same_elements_forward_and_backward(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFMAE_KERNELS", "triton")
    torch.manual_seed(0)
    residual = torch.zeros(2, 50, 96, device=device)
    branch = torch.ones(2, 50, 96, device=device, requires_grad=True)
    weight, bias = torch.ones(96, device=device), torch.zeros(96, device=device)
    totals = []
    for _ in range(2):
        branch.grad = None
        total, _ = affmae_kernels.residual_norm(residual, branch, weight, bias, dropout=0.25)
        total.sum().backward()
        kept = total != 0
        torch.testing.assert_close(total, kept / 0.75)
        torch.testing.assert_close(branch.grad, kept / 0.75)
        assert abs(kept.float().mean().item() - 0.75) < 0.02
        assert (kept.float().mean((0, 1)) > 0.55).all(), "no channel is dropped more often than others"
        totals.append(total.detach())
    assert not torch.equal(totals[0], totals[1]), "every call draws anew"
    torch.manual_seed(0)
    again, _ = affmae_kernels.residual_norm(residual, branch, weight, bias, dropout=0.25)
    assert torch.equal(again, totals[0]), "and repeats itself from the same seed"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hides", [True, False])
@pytest.mark.parametrize("shape", [(1, 48), (131, 48), (64, 24), (33, 100), (0, 48)])
def test_masked_norm_gelu(check: Any, make: Make, shape: tuple[int, int], hides: bool, dtype: torch.dtype) -> None:
    given = {
        "rows": make["draw"](*shape, seed=1) * 2 + 1,
        "visible": make["draw"](shape[0], seed=2) > 0 if hides else None,
        "weight": make["draw"](shape[1], seed=3),
        "bias": make["draw"](shape[1], seed=4),
    }
    check((affmae_kernels.masked_norm_gelu, given, ("rows", "weight", "bias"), ("rows",)), dtype)


def norm_of(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return affmae_kernels.residual_norm(rows, None, weight, bias)[1]


def masked_norm_of(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return affmae_kernels.masked_norm_gelu(rows, None, weight, bias)


@pytest.mark.parametrize("operator", [norm_of, masked_norm_of])
def test_weights_that_are_not_contiguous(
    operator: Callable[..., Tensor], make: Make, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFMAE_KERNELS", "triton")
    rows = make["draw"](5, 48, seed=1).float().to(device).requires_grad_()
    weight, bias = make["draw"](48, 2, seed=2).float().to(device).unbind(1)
    results = []
    for given in ((weight, bias), (weight.contiguous(), bias.contiguous())):
        output = operator(rows, *given)
        results.append((output, *torch.autograd.grad(output.square().sum(), rows)))
    assert all(torch.equal(strided, dense) for strided, dense in zip(*results, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 2047, 2049])
def test_relu_without_dropout(check: Any, make: Make, count: int, dtype: torch.dtype) -> None:
    given = {"hidden": make["draw"](count, seed=1), "dropout": 0.0}
    check((affmae_kernels.relu_dropout, given, ("hidden",), ("hidden",)), dtype)


def test_relu_dropout_passes_gradients_where_it_passed_values(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFMAE_KERNELS", "triton")
    torch.manual_seed(0)
    hidden = torch.randn(9, 1001, device=device, requires_grad=True)
    result = affmae_kernels.relu_dropout(hidden, 0.1)
    result.sum().backward()
    kept = result > 0
    torch.testing.assert_close(result, torch.where(kept, hidden / 0.9, 0.0))
    torch.testing.assert_close(hidden.grad, kept / 0.9)
    positive = hidden > 0
    assert abs((kept & positive).sum().item() / positive.sum().item() - 0.9) < 0.02
