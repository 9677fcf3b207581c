"""The Triton kernels against the float64 reference: on a GPU, or under Triton's interpreter if ``TRITON_INTERPRET=1``.

``tests/kernels/test_interpreter.py`` runs this folder under the interpreter, in a process of its own: the choice has to be made
before Triton is imported. Without either, everything here is skipped.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

FLOORS = {torch.float32: 3e-6, torch.bfloat16: 4e-3, torch.float16: 5e-4}
"""Relative errors below which a kernel is right whatever the reference does: a few roundings of sums, or of one result."""

Case = tuple[Callable[..., Tensor], dict[str, Any], tuple[str, ...], tuple[str, ...]]
"""The operator, its arguments in float64, the names of those that learn, and of those that take half precision."""


@pytest.fixture
def device() -> torch.device:
    if INTERPRETED:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device, or TRITON_INTERPRET=1")
    with warnings.catch_warnings():
        # The thread of autograd says so once when it multiplies matrices before anything else has used the device there.
        warnings.filterwarnings("ignore", "Attempting to run cuBLAS, but there was no current CUDA context")
        one = torch.ones(1, 1, device="cuda", requires_grad=True)
        (one @ one).sum().backward()
    return torch.device("cuda")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "triton" and not INTERPRETED:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(autouse=True)
def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill fresh memory with NaN, or with numbers that no list of tiles holds, so that an unwritten output shows."""

    def poisoned(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def fill(*given: Any, **options: Any) -> Tensor:
            fresh = make(*given, **options)
            return fresh.fill_(torch.nan) if fresh.is_floating_point() else fresh.fill_(torch.iinfo(fresh.dtype).max)

        return fill

    for name in ("empty", "empty_like"):  # the two that the kernels' outputs come from
        monkeypatch.setattr(torch, name, poisoned(getattr(torch, name)))


def run(case: Case, implementation: str, dtype: torch.dtype, given_in: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """Return the output and all gradients; every precision starts from the same numbers, those that ``given_in`` can hold."""
    operator, given, learned, features = case
    arguments = dict(given)
    for name, value in given.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            narrow, wide = (given_in, dtype) if name in features else (torch.float32, torch.promote_types(dtype, torch.float32))
            arguments[name] = value.to(narrow).to(device, wide).requires_grad_(name in learned)
        elif isinstance(value, Tensor):
            arguments[name] = value.to(device)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AFFMAE_KERNELS", implementation)
        output = operator(**arguments)
        weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(5)).to(given_in)
        output.backward(weights.to(device, output.dtype))
    return {"output": output.detach(), **{name: arguments[name].grad for name in learned}}


def relative(value: Tensor, truth: Tensor) -> float:
    size = truth.norm().item()
    return (value.double() - truth).norm().item() / (size if size > 0 else 1.0)


@pytest.fixture
def check(device: torch.device) -> Callable[[Case, torch.dtype], None]:
    """Compare a kernel with the float64 reference; it may err twice as much as PyTorch does at the same precision."""

    def compare(case: Case, dtype: torch.dtype) -> None:
        if INTERPRETED and dtype == torch.bfloat16 and case[0].__name__ in ("cluster_attention", "token_merge"):
            pytest.skip("the interpreter multiplies the bits of bfloat16 matrices instead of their values")
        truth = run(case, "pytorch", torch.float64, dtype, device)
        peer = run(case, "pytorch", dtype, dtype, device)
        kernel = run(case, "triton", dtype, dtype, device)
        for name, wanted in truth.items():
            assert kernel[name].shape == wanted.shape
            error, allowed = relative(kernel[name], wanted), 2 * relative(peer[name], wanted) + FLOORS[dtype]
            assert error <= allowed, f"{name}: error {error:.2e} against float64, allowed {allowed:.2e}"

    return compare


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def places(batch: int, count: int, side: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    ids = torch.stack([torch.randperm(side * side, generator=generator)[:count] for _ in range(batch)])
    return torch.stack((ids % side, ids // side), dim=-1).double()


def clusters(batch: int, count: int, size: int, near: int | None) -> Tensor | None:
    """Draw neighbour clusters; every third token lists one cluster twice."""
    if near is None:
        return None
    generator = torch.Generator().manual_seed(7)
    listed = torch.rand(batch, count, -(-count // size), generator=generator).argsort(-1)[..., :near].contiguous()
    if listed.shape[-1] > 1:
        listed[:, ::3, 0] = listed[:, ::3, 1]
    return listed


@pytest.fixture
def make() -> dict[str, Callable[..., Any]]:
    """Return the makers of inputs."""
    return {"draw": draw, "places": places, "clusters": clusters, "run": run}
