"""Effective rank at the ends of its range and against its definition."""

from __future__ import annotations

import math

import pytest
import torch

from napari_affmae.model.effective_rank import effective_rank


def test_collapsed_tokens_have_rank_zero() -> None:
    assert effective_rank(torch.full((10, 4), 3.3)) == (0.0, 0.0)


def test_one_direction_is_rank_one() -> None:
    rank, normalised = effective_rank(torch.outer(torch.arange(9.0), torch.tensor([1.0, -2.0, 0.5])))
    assert rank == pytest.approx(1.0, abs=1e-4)
    assert normalised == pytest.approx(1 / 3, abs=1e-4)


def test_equal_directions_fill_the_space() -> None:
    tokens = torch.cat((torch.eye(4), -torch.eye(4)))
    assert effective_rank(tokens)[0] == pytest.approx(4.0)
    tokens[:, 0] *= 3  # singular values 3:1:1:1
    share = [0.5, 1 / 6, 1 / 6, 1 / 6]
    assert effective_rank(tokens)[0] == pytest.approx(math.exp(-sum(p * math.log(p) for p in share)))


@pytest.mark.parametrize("shape", [(0, 4), (3,), (2, 3, 4)])
def test_wrong_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"tokens must be \[n, D\]"):
        effective_rank(torch.zeros(shape))
