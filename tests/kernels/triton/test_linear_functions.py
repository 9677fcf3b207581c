"""Linear layers whose backward passes are written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import affmae_kernels
import pytest
import torch
from affmae_kernels.linear.registered import column_sum_op

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
Make = dict[str, Callable[..., Any]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 24, 7), (2, 67, 48, 200), (1, 300, 96, 456)])
def test_linear(check: Any, make: Make, shape: tuple[int, int, int, int], biased: bool, dtype: torch.dtype) -> None:
    batch, count, inside, outside = shape
    given = {
        "tokens": make["draw"](batch, count, inside, seed=1),
        "weight": make["draw"](outside, inside, seed=2),
        "bias": make["draw"](outside, seed=3) if biased else None,
    }
    learned = ("tokens", "weight", "bias") if biased else ("tokens", "weight")
    check((affmae_kernels.linear, given, learned, ("tokens", "weight", "bias")), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("biased", [True, False])
def test_feed_forward(check: Any, make: Make, activation: str, biased: bool, dtype: torch.dtype) -> None:
    given = {
        "tokens": make["draw"](2, 67, 48, seed=1),
        "weight1": make["draw"](96, 48, seed=2) / 7,
        "bias1": make["draw"](96, seed=3),
        "weight2": make["draw"](40, 96, seed=4) / 10,
        "bias2": make["draw"](40, seed=5) if biased else None,
        "activation": activation,
    }
    learned = ("tokens", "weight1", "bias1", "weight2") + (("bias2",) if biased else ())
    check((affmae_kernels.feed_forward, given, learned, ("tokens", "weight1", "bias1", "weight2", "bias2")), dtype)


def test_feed_forward_drops_the_same_elements_when_it_computes_again(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFMAE_KERNELS", "triton")
    torch.manual_seed(0)
    one = torch.eye(64, device=device)
    tokens = torch.ones(5, 64, device=device, requires_grad=True)
    result = affmae_kernels.feed_forward(tokens, one, torch.zeros(64, device=device), one, None, "relu", 0.25)
    result.sum().backward()
    assert 0.6 < (result > 0).float().mean() < 0.9
    torch.testing.assert_close(tokens.grad, result.detach())


@pytest.mark.parametrize("shape", [(1, 1), (64, 128), (65, 129), (20000, 7), (3, 1000)])
def test_column_sum(shape: tuple[int, int], device: torch.device) -> None:
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    torch.testing.assert_close(column_sum_op(rows).double(), rows.double().sum(0), rtol=1e-5, atol=1e-4)
    assert torch.equal(column_sum_op(rows), column_sum_op(rows))


def test_narrow_copies_change_no_bit(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # fresh memory need not be poisoned: autograd makes tensors of its own
    monkeypatch.setenv("AFFMAE_KERNELS", "triton")
    torch.manual_seed(0)
    first, second = (torch.nn.Linear(48, 48).to(device) for _ in range(2))
    tokens = torch.randn(3, 5, 48, device=device).half()

    def step() -> list[torch.Tensor]:
        hidden = affmae_kernels.linear(tokens, first.weight, first.bias)
        result = affmae_kernels.feed_forward(hidden, first.weight, first.bias, second.weight, second.bias, "gelu")
        learned = [*first.parameters(), *second.parameters()]
        return [result.detach(), *torch.autograd.grad(result.float().square().sum(), learned)]

    alone = step()
    with affmae_kernels.NarrowCopies([*first.parameters(), *second.parameters()], torch.float16):
        shared = step()
    assert all(torch.equal(one, other) for one, other in zip(alone, shared, strict=True))
    with torch.no_grad():
        first.weight.zero_()  # behind the block nothing is remembered
    assert not affmae_kernels.linear(tokens, first.weight, None).any()
