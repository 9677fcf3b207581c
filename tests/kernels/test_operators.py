"""Operators against formulas written out token by token, and their gradients against finite differences."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from affmae_kernels import cluster_attention, deformable_attention, relative_features, residual_norm, token_merge
from torch import Tensor
from torch.nn import functional


def draw(*shape: int, seed: int = 0, grad: bool = True) -> Tensor:
    generator = torch.Generator().manual_seed(hash((shape, seed)) % 2**31)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_(grad)


def places(batch: int, count: int, side: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    ids = torch.stack([torch.randperm(side * side, generator=generator)[:count] for _ in range(batch)])
    return torch.stack((ids % side, ids // side), dim=-1).double()


def phi(dx: float, dy: float) -> Tensor:
    r = math.hypot(dx, dy)
    return torch.tensor([dx, dy, r, dy / r if r else 0.0, dx / r if r else 0.0], dtype=torch.float64)


def attention_inputs(batch: int, tokens: int, heads: int, dim: int, size: int, near: int | None) -> dict[str, Any]:
    clusters = None
    if near is not None:
        total = math.ceil(tokens / size)
        generator = torch.Generator().manual_seed(7)
        clusters = torch.stack(
            [torch.stack([torch.randperm(total, generator=generator)[:near] for _ in range(tokens)]) for _ in range(batch)]
        )
    return {
        "query": draw(batch, tokens, heads, dim, seed=1),
        "key": draw(batch, tokens, heads, dim, seed=2),
        "value": draw(batch, tokens, heads, dim, seed=3),
        "positions": places(batch, tokens),
        "clusters": clusters,
        "cluster_size": size,
        "bias_weight": draw(heads, 5, seed=4),
        "bias": draw(heads, seed=5),
        "blank_key": draw(heads, dim, seed=6),
        "blank_value": draw(heads, dim, seed=7),
    }


def attention_token_by_token(given: dict[str, Any]) -> Tensor:
    query, key, value, positions = given["query"], given["key"], given["value"], given["positions"]
    batch, tokens, heads, dim = query.shape
    result = torch.full_like(query, torch.nan)
    for b in range(batch):
        for i in range(tokens):
            if given["clusters"] is None:
                rows = list(range(tokens))
            else:
                size = given["cluster_size"]
                rows = [r for c in given["clusters"][b, i].tolist() for r in range(c * size, (c + 1) * size) if r < tokens]
            for h in range(heads):
                q = query[b, i, h]
                logits = [
                    q @ key[b, j, h] / math.sqrt(dim)
                    + given["bias_weight"][h] @ phi(*(positions[b, j] - positions[b, i]).tolist())
                    + given["bias"][h]
                    for j in rows
                ]
                logits.append(q @ given["blank_key"][h] / math.sqrt(dim))
                weights = torch.softmax(torch.stack(logits), 0)
                values = torch.stack([value[b, j, h] for j in rows] + [given["blank_value"][h]])
                result[b, i, h] = weights @ values
    return result


ATTENTION = [(1, 1, 1, 2, 4, 1), (2, 13, 2, 4, 4, 2), (1, 17, 3, 2, 8, 3), (2, 11, 2, 4, 4, None)]


@pytest.mark.parametrize("shape", ATTENTION)
def test_cluster_attention(shape: Any) -> None:
    given = attention_inputs(*shape)
    torch.testing.assert_close(cluster_attention(**given), attention_token_by_token(given), atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("shape", [(1, 7, 2, 2, 4, 2), (1, 5, 1, 3, 4, None)])
def test_cluster_attention_gradients(shape: Any) -> None:
    given = attention_inputs(*shape)
    learned = [name for name, value in given.items() if isinstance(value, Tensor) and value.requires_grad]
    assert len(learned) == 7

    def run(*values: Tensor) -> Tensor:
        return cluster_attention(**{**given, **dict(zip(learned, values, strict=True))})

    assert torch.autograd.gradcheck(run, [given[name] for name in learned])


def test_cluster_attention_survives_large_logits() -> None:
    given = attention_inputs(1, 9, 2, 4, 4, 2)
    given["query"] = (given["query"].detach() * 1e4).requires_grad_()
    output = cluster_attention(**given)
    output.sum().backward()
    assert output.isfinite().all()
    assert given["query"].grad.isfinite().all()


def test_padding_of_the_last_cluster_is_masked() -> None:
    given = attention_inputs(1, 9, 1, 2, 8, 2)  # cluster 1 holds one token and seven rows of padding
    alone = cluster_attention(**given)
    given["clusters"] = given["clusters"].sort(dim=-1).values
    torch.testing.assert_close(cluster_attention(**given), alone)
    torch.testing.assert_close(alone, attention_token_by_token(given))


def merge_inputs(clustered: bool) -> dict[str, Any]:
    given = attention_inputs(2, 11, 1, 2, 4, 2 if clustered else None)
    return {
        "tokens": draw(2, 11, 3, seed=1),
        "scores": draw(2, 11, seed=2).detach().sigmoid().requires_grad_(),
        "positions": given["positions"],
        "survivors": torch.tensor([[0, 4, 10], [2, 3, 9]]),
        "clusters": given["clusters"],
        "cluster_size": 4,
        "weight": draw(4, 5, seed=3),
        "bias": draw(4, seed=4),
        "norm_weight": draw(4, seed=5),
        "norm_bias": draw(4, seed=6),
    }


@pytest.mark.parametrize("clustered", [True, False])
def test_token_merge(clustered: bool) -> None:
    given = merge_inputs(clustered)
    wanted = torch.zeros(2, 3, 4, 3, dtype=torch.float64)
    for b in range(2):
        for s, i in enumerate(given["survivors"][b].tolist()):
            rows = range(11)
            if clustered:
                rows = [r for c in given["clusters"][b, i].tolist() for r in range(4 * c, 4 * c + 4) if r < 11]
            for j in rows:
                features = phi(*(given["positions"][b, j] - given["positions"][b, i]).tolist())
                hidden = functional.layer_norm(
                    given["weight"] @ features + given["bias"], (4,), given["norm_weight"], given["norm_bias"]
                )
                wanted[b, s] += given["scores"][b, j] * torch.outer(functional.gelu(hidden), given["tokens"][b, j])
    torch.testing.assert_close(token_merge(**given), wanted.flatten(-2), atol=1e-12, rtol=1e-10)


def test_token_merge_gradients() -> None:
    given = merge_inputs(True)
    learned = [name for name, value in given.items() if isinstance(value, Tensor) and value.requires_grad]
    assert "scores" in learned

    def run(*values: Tensor) -> Tensor:
        return token_merge(**{**given, **dict(zip(learned, values, strict=True))})

    assert torch.autograd.gradcheck(run, [given[name] for name in learned])


def deformable_inputs(count: int = 10) -> dict[str, Any]:
    return {
        "value": draw(2, count, 2, 3, seed=1),
        "positions": places(2, count),
        "points": (draw(2, 5, 2, 4, 2, seed=2).detach() * 3 + 4).requires_grad_(),
        "mixing": draw(2, 5, 2, 4, seed=3).detach().softmax(-1).requires_grad_(),
        "power": torch.tensor(1.3, dtype=torch.float64, requires_grad=True),
    }


@pytest.mark.parametrize("count", [10, 3, 1])
def test_deformable_attention(count: int) -> None:
    given = deformable_inputs(count)
    wanted = torch.zeros(2, 5, 2, 3, dtype=torch.float64)
    for b in range(2):
        for q in range(5):
            for h in range(2):
                for p in range(4):
                    distance = (given["points"][b, q, h, p] - given["positions"][b]).norm(dim=-1)
                    near = distance.argsort(stable=True)[:4]
                    weights = torch.softmax(-given["power"] * (distance[near] + 1e-6), 0)
                    wanted[b, q, h] += given["mixing"][b, q, h, p] * (weights @ given["value"][b, near, h])
    torch.testing.assert_close(deformable_attention(**given), wanted, atol=1e-12, rtol=1e-10)


def test_deformable_attention_gradients() -> None:
    given = deformable_inputs()
    learned = [name for name in given if name != "positions"]

    def run(*values: Tensor) -> Tensor:
        return deformable_attention(positions=given["positions"], **dict(zip(learned, values, strict=True)))

    assert torch.autograd.gradcheck(run, [given[name] for name in learned])


def test_points_on_tokens_have_finite_gradients() -> None:
    """At initialisation a quarter of the sampling points sit exactly on a token."""
    given = deformable_inputs()
    given["points"] = given["positions"][:, :5, None, None].expand(2, 5, 2, 4, 2).clone().requires_grad_()
    deformable_attention(**given).square().sum().backward()
    assert given["points"].grad.isfinite().all()
    assert given["power"].grad.isfinite()


def test_power_below_its_floor_passes_no_gradient() -> None:
    given = deformable_inputs()
    given["power"] = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    deformable_attention(**given).sum().backward()
    assert given["power"].grad == 0


def test_mixing_weights_need_not_be_contiguous() -> None:
    given = deformable_inputs()
    dense = deformable_attention(**given)
    given["mixing"] = given["mixing"].transpose(2, 3).contiguous().transpose(2, 3)
    assert torch.equal(deformable_attention(**given), dense)


def test_no_gradient_flows_to_the_scale_of_a_branch() -> None:
    residual, branch, scale = draw(2, 5, 4, seed=1), draw(2, 5, 4, seed=2), draw(2, seed=3)
    total, normed = residual_norm(residual, branch, draw(4, seed=4), draw(4, seed=5), scale=scale)
    (total.sum() + normed.square().sum()).backward()
    assert branch.grad is not None
    assert scale.grad is None


def test_relative_features_are_clipped() -> None:
    features = relative_features(torch.tensor([[0.0, 0.0], [3.0, 4.0], [500.0, 0.0]]))
    torch.testing.assert_close(
        features, torch.tensor([[0, 0, 0, 0, 0], [3, 4, 5, 0.8, 0.6], [127.0, 0, 127, 0, 1]]), atol=0, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("key", torch.zeros(2, 12, 2, 4), r"key must be \[B, n, H, d\] = \[2, 13, 2, 4\], got \[2, 12, 2, 4\]"),
        ("bias_weight", torch.zeros(2, 4), r"bias_weight must be \[H, 5\]"),
        ("clusters", torch.zeros(2, 13, dtype=torch.int64), r"clusters must be \[B, n, c\]"),
    ],
)
def test_bad_arguments(name: str, value: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cluster_attention(**{**attention_inputs(2, 13, 2, 4, 4, 2), name: value})
