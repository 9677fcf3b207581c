"""Attention by a table of all pairs is the attention that gathers neighbours, in float64 to the last digits."""

from __future__ import annotations

import pytest
import torch
from affmae_kernels import cluster_attention
from affmae_kernels.attention import op
from affmae_kernels.attention.dense import FEW, cluster_attention_dense
from affmae_kernels.attention.reference import cluster_attention_reference
from torch import Tensor

SIZE = 8
LEARNED = ("query", "key", "value", "bias_weight", "bias", "blank_key", "blank_value")


def draw(tokens: int, near: int, *, twice: bool = False, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(tokens)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=source, dtype=torch.float64).to(dtype).requires_grad_()

    batch, heads, dim = 2, 3, 6
    ids = torch.stack([torch.randperm(4 * tokens, generator=source)[:tokens] for _ in range(batch)])
    count = -(-tokens // SIZE)
    clusters = torch.rand(batch, tokens, count, generator=source).argsort(-1)[..., :near].contiguous()
    if twice and near > 1:
        clusters[:, ::2, 0] = clusters[:, ::2, 1]
    return {
        "query": normal(batch, tokens, heads, dim),
        "key": normal(batch, tokens, heads, dim),
        "value": normal(batch, tokens, heads, dim),
        "positions": torch.stack((ids % 40, ids // 40), dim=-1).double(),
        "clusters": clusters,
        "bias_weight": normal(heads, 5),
        "bias": normal(heads),
        "blank_key": normal(heads, dim),
        "blank_value": normal(heads, dim),
    }


@pytest.mark.parametrize(
    ("tokens", "near", "twice"), [(1, 1, False), (8, 1, False), (37, 3, False), (64, 8, True), (61, 5, True)]
)
def test_results_and_gradients(tokens: int, near: int, twice: bool) -> None:
    given = draw(tokens, near, twice=twice)
    results = {}
    for name, function in (("dense", cluster_attention_dense), ("gathering", cluster_attention_reference)):
        output = function(**given, cluster_size=SIZE)
        weights = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view(output.shape)
        results[name] = (output, *torch.autograd.grad((output * weights).sum(), [given[learned] for learned in LEARNED]))
    for name, dense, gathered in zip(("result", *LEARNED), results["dense"], results["gathering"], strict=True):
        torch.testing.assert_close(dense, gathered, rtol=1e-10, atol=1e-11, msg=lambda text, name=name: f"{name}: {text}")


def test_half_precision_sums_in_float32() -> None:
    given = draw(61, 5, dtype=torch.bfloat16)
    exact = {name: value.double() if value.is_floating_point() else value for name, value in given.items()}
    truth = cluster_attention_reference(**exact, cluster_size=SIZE)
    errors = [
        (function(**given, cluster_size=SIZE).double() - truth).norm() / truth.norm()
        for function in (cluster_attention_dense, cluster_attention_reference)
    ]
    assert errors[0] <= 2 * errors[1]


def test_large_logits_stay_finite() -> None:
    given = draw(37, 3)
    given = {name: 1e4 * value.detach() if name == "query" else value for name, value in given.items()}
    assert torch.isfinite(cluster_attention_dense(**given, cluster_size=SIZE)).all()


@pytest.mark.parametrize(("tokens", "dense"), [(FEW, True), (FEW + 1, False)])
def test_the_number_of_tokens_decides(tokens: int, dense: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(op, "cluster_attention_dense", lambda *given: called.append("dense") or given[0])
    monkeypatch.setattr(op, "cluster_attention_reference", lambda *given: called.append("gathering") or given[0])
    cluster_attention(**draw(tokens, 2), cluster_size=SIZE)
    assert called == ["dense" if dense else "gathering"]
