"""Figures over all labelled pixels together."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from napari_affmae.card import ClassInfo, ModelCard, Normalisation, PixelSize
from napari_affmae.data.labels import LabelledImage
from napari_affmae.data.records import ImageRecord
from napari_affmae.data.scan import collection_from_arrays
from napari_affmae.engine import evaluate as evaluate_module
from napari_affmae.engine.confusion import Confusion
from napari_affmae.engine.evaluate import evaluate
from napari_affmae.engine.segment import segment
from napari_affmae.engine.tiling import RowFunction
from napari_affmae.errors import LabelError, ModelFileError
from napari_affmae.events import Event
from napari_affmae.model.mae import MaskedAutoencoder
from napari_affmae.model.segmenter import Segmenter
from napari_affmae.model_config import ModelConfig

CLASSES = tuple(ClassInfo(id=i, name=name, color="#000000") for i, name in ((4, "a"), (2, "b"), (9, "a")))


def test_figures_of_a_small_table() -> None:
    confusion = Confusion(CLASSES)
    confusion.add(np.array([0, 0, 1, 1, 2]), np.array([0, 0, 0, 1, -1]))
    confusion.add(np.array([[1]]), np.array([[1]]))
    np.testing.assert_array_equal(confusion.matrix, [[2, 1, 0], [0, 2, 0], [0, 0, 0]])
    assert confusion.pixels == 5
    assert confusion.iou == {"a (4)": pytest.approx(2 / 3), "b": pytest.approx(2 / 3)}
    assert confusion.miou == pytest.approx(2 / 3)
    assert confusion.accuracy == pytest.approx(4 / 5)
    assert confusion.majority_miou == pytest.approx(3 / 5 / 2)


def test_a_class_that_is_only_predicted_costs_the_others_but_is_not_averaged() -> None:
    confusion = Confusion(CLASSES)
    confusion.add(np.array([0, 2]), np.array([0, 0]))
    assert confusion.iou == {"a (4)": 0.5}
    assert confusion.miou == 0.5


def test_nothing_counted() -> None:
    confusion = Confusion(CLASSES)
    assert (confusion.pixels, confusion.miou, confusion.accuracy, confusion.majority_miou) == (0, 0, 0, 0)


@pytest.mark.parametrize("sparse", [False, True])
def test_it_is_the_segmentation_that_is_compared(micro: ModelConfig, examples: list[LabelledImage], sparse: bool) -> None:
    model = Segmenter(micro, 2)
    shift = int(sparse)
    model.card = ModelCard(classes=tuple(ClassInfo(id=i + shift, name=f"c{i}", color="#000000") for i in range(2)))
    labels = [example.labels + shift for example in examples]
    if sparse:
        for ids in labels:
            ids[:50] = 0
    given = [LabelledImage(example.record, ids) for example, ids in zip(examples, labels, strict=True)]
    seen: list[tuple[int, int]] = []
    result = evaluate(model, given, device="cpu", sparse=sparse, on_progress=lambda *at: seen.append(at))
    right = total = 0
    for example in given:
        predicted = segment(model, example.record.read(), device="cpu").labels
        counted = example.labels > 0 if sparse else np.ones_like(example.labels, bool)
        right += int((predicted == example.labels)[counted].sum())
        total += int(counted.sum())
    assert result.pixels == total
    assert result.accuracy == pytest.approx(right / total)
    assert result.confusion.sum() == total
    assert seen == [(1, 2), (2, 2)]


def test_the_truth_scores_1(micro: ModelConfig, examples: list[LabelledImage], monkeypatch: pytest.MonkeyPatch) -> None:
    truth = iter(example.labels for example in examples)

    def perfect(*_: object, into: RowFunction, **__: object) -> Iterator[Event]:
        labels = next(truth)
        into(0, np.stack([labels == 0, labels == 1]).astype(np.float32))
        yield from ()

    monkeypatch.setattr(evaluate_module, "segment_events", perfect)
    result = evaluate(Segmenter(micro, 2), examples, device="cpu")
    assert (result.miou, result.accuracy) == (1, 1)
    assert result.majority_miou < 0.5


def test_what_labels_mean_is_not_kept_for_all_images_at_once(micro: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.ones((1000, 500), np.uint8)
    record = ImageRecord("one", *labels.shape, 1, "uint8", array=labels)
    examples = [LabelledImage(record, labels)] * 20

    def row_by_row(*_: object, into: RowFunction, **__: object) -> Iterator[Event]:
        for top in range(0, 1000, 100):
            into(top, np.zeros((2, 100, 500), np.float32))
        yield from ()

    monkeypatch.setattr(evaluate_module, "segment_events", row_by_row)
    model = Segmenter(micro, 2)
    tracemalloc.start()
    result = evaluate(model, examples, device="cpu")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.pixels == 20 * labels.size
    assert most < 5 * 8 * labels.size


@pytest.mark.parametrize("background", [255, 2])
def test_classes_are_matched_by_name_where_the_labels_have_names(
    micro: ModelConfig, examples: list[LabelledImage], background: int
) -> None:
    """A network of dense classes is scored the same by paint that calls them otherwise, as the dock's does."""
    model = Segmenter(micro, 2)
    own = tuple(ClassInfo(id=i, name=name, color="#000000") for i, name in enumerate(("ground", "blob")))
    model.card = ModelCard(classes=own)
    painted = [LabelledImage(e.record, np.where(e.labels == 0, background, 1).astype(np.uint8)) for e in examples]
    classes = (own[1], own[0].replace(id=background))
    dense = evaluate(model, examples, device="cpu")
    result = evaluate(model, painted, device="cpu", sparse=True, classes=classes)
    np.testing.assert_array_equal(result.confusion, dense.confusion)


def test_images_that_do_not_fit_the_network_are_told(micro: ModelConfig, examples: list[LabelledImage]) -> None:
    model = Segmenter(micro, 2)
    model.card = ModelCard(
        classes=tuple(ClassInfo(id=i, name=f"c{i}", color="#000000") for i in range(2)),
        normalisation=Normalisation(low=(0,), high=(255,), mean=(120,), std=(60,)),
        pixel_size=PixelSize(y=8, x=8, unit="nanometer"),
    )
    pixels = examples[0].record.read()[..., 0]
    arrays = {"fits": pixels, "brighter": pixels.astype(np.uint16) * 200}
    records = collection_from_arrays(arrays, PixelSize(y=32, x=32, unit="nanometer")).records
    result = evaluate(model, [LabelledImage(record, examples[0].labels) for record in records], device="cpu")
    scaled, clipped = result.notices
    assert "of the pixels of brighter lie outside of the range of values" in clipped
    assert "32 nm per pixel, the model was trained at 8 nm" in scaled
    assert not evaluate(model, examples, device="cpu").notices


def test_labels_without_paint(micro: ModelConfig, examples: list[LabelledImage]) -> None:
    model = Segmenter(micro, 2)
    model.card = ModelCard(classes=CLASSES[:2])
    empty = LabelledImage(examples[0].record, np.zeros((96, 80), np.uint8))
    with pytest.raises(LabelError, match="nothing is labelled"):
        evaluate(model, [empty], device="cpu", sparse=True)


def test_an_id_that_the_model_does_not_know(micro: ModelConfig, examples: list[LabelledImage]) -> None:
    model = Segmenter(micro, 2)
    model.card = ModelCard(classes=CLASSES[:2])
    with pytest.raises(LabelError, match=r"the labels hold id 0.*--sparse"):
        evaluate(model, examples, device="cpu")


def test_a_pretrained_network(micro: ModelConfig, examples: list[LabelledImage]) -> None:
    with pytest.raises(ModelFileError, match="no segmenter"):
        evaluate(MaskedAutoencoder(micro), examples)  # type: ignore[arg-type]
