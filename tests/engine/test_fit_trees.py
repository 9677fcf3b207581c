"""Committees of trees: they learn what was painted, see what they are shown only, and are the same for the same paint."""

from __future__ import annotations

import pytest
import torch

from napari_affmae.engine.fit_trees import fit_trees
from napari_affmae.model.trees import Trees


@pytest.fixture
def rows() -> torch.Tensor:
    return torch.randn(900, 6, generator=torch.Generator().manual_seed(0))


def accuracy(trees: Trees, rows: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    return (trees(rows).argmax(-1) == classes).float().mean(dim=1)


def test_what_was_painted_is_found_elsewhere(rows: torch.Tensor) -> None:
    """Three classes by two of six numbers; the later half was never shown."""
    classes = (rows[:, 1] > 0.3).long() + (rows[:, 4] > 0).long()
    trees = Trees(2, 3)
    fit_trees(trees, rows[:450], classes[:450], torch.ones(2, 450), 0)
    assert (accuracy(trees, rows[450:], classes[450:]) > 0.9).all()


def test_members_do_not_see_pixels_without_weight(rows: torch.Tensor) -> None:
    classes = (rows[:, 0] > 0).long()
    weights = torch.ones(2, 900)
    weights[1, ::2] = 0
    shuffled, disturbed = classes.clone(), rows.clone()
    shuffled[::2] = 1 - shuffled[::2]
    disturbed[::2] += 50
    ends = []
    for values, labels in ((rows, classes), (disturbed, shuffled)):
        trees = Trees(2, 2)
        fit_trees(trees, values, labels, weights, 0)
        ends.append(trees.state_dict())
    for name, value in ends[0].items():
        assert torch.equal(value[1], ends[1][name][1]), name
        assert not torch.equal(value[0], ends[1][name][0]), name


def test_the_same_paint_gives_the_same_trees_and_a_seed_others(rows: torch.Tensor) -> None:
    classes = (rows[:, 0] > 0).long()
    made = []
    for seed in (0, 0, 1):
        trees = Trees(1, 2)
        fit_trees(trees, rows, classes, torch.ones(1, 900), seed)
        made.append(trees.state_dict())
    assert all(torch.equal(value, made[1][name]) for name, value in made[0].items())
    assert not torch.equal(made[0]["threshold"], made[2]["threshold"])


def test_leaves_hold_probabilities(rows: torch.Tensor) -> None:
    classes = (rows[:, 0] > 0).long()
    trees = Trees(1, 3)
    fit_trees(trees, rows, classes, torch.rand(1, 900), 0)
    torch.testing.assert_close(trees.leaves.sum(-1), torch.ones_like(trees.leaves[..., 0]))
    assert (trees.leaves[..., 2] == 0).all()  # nobody painted it
    assert trees(rows)[..., 2].max() < trees(rows)[..., :2].min() + 1e-6


def test_one_pixel_per_class_is_enough() -> None:
    trees = Trees(1, 2)
    rows = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    fit_trees(trees, rows, torch.tensor([0, 1]), torch.ones(1, 2), 0)
    assert (accuracy(trees, rows, torch.tensor([0, 1])) == 1).all()


def test_a_map_is_its_pixels() -> None:
    trees = Trees(2, 3)
    maps = torch.randn(2, 5, 7, 9)
    trees.feature.random_(5)
    trees.threshold.normal_()
    trees.leaves.uniform_()
    rows = maps.movedim(1, -1).flatten(0, 2)
    for member in range(2):
        alone = trees(rows)[member].view(2, 7, 9, 3).movedim(-1, 1)
        torch.testing.assert_close(trees.map(member, maps), alone)
