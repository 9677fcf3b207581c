"""Overlays lie where their image lies, are updated in place, and never take the brush away."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels
from qtpy.QtGui import QIcon
from skimage.color import rgb2lab

from napari_affmae.card import PixelSize
from napari_affmae.data.classes import default_classes
from napari_affmae.data.records import ImageRecord
from napari_affmae.engine.refine import Refined
from napari_affmae.events import LivePrediction, Preview
from napari_affmae.widgets.image_list import STATES, state_icon
from napari_affmae.widgets.kinds import GROUP, KIND, PREDICTED, Kind
from napari_affmae.widgets.layers import OverlayLayers
from napari_affmae.widgets.placement import pixel_size_of
from napari_affmae.widgets.plane import Plane, for_display, grey_limits
from napari_affmae.widgets.state import DEFAULT_CLASSES


class Result:
    def __init__(self, shape, value=2):
        self.labels = np.full(shape, value, np.uint8)
        self.probabilities = np.stack([np.full(shape, part, np.float32) for part in (0.25, 0.75)])
        self.classes = DEFAULT_CLASSES


class Stage:
    name = "stage 2"

    def __init__(self, shape, tokens=6):
        owners = np.arange(shape[0] * shape[1]).reshape(shape) % tokens
        self.positions_rc = np.stack([np.linspace(0, side - 1, tokens) for side in shape], 1).astype(np.float32)
        self.merge_map = (owners + 1).astype(np.int32)
        self.density = np.full(shape, 0.5, np.float32)
        self.pca = np.random.default_rng(0).random((*shape, 3), np.float32)


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def layers(viewer):
    return OverlayLayers(viewer)


def add_image(viewer, shape=(32, 48), **options):
    pixels = np.random.default_rng(0).random(shape)
    return viewer.add_image(pixels, name="em", **options)


def show_everything(layers, plane):
    stage = Stage(plane.shape)
    layers.create_paint(plane, DEFAULT_CLASSES, None)
    layers.show_segmentation(plane, Result(plane.shape))
    layers.show_probabilities(plane, DEFAULT_CLASSES, Result(plane.shape).probabilities)
    layers.want_uncertainty(True)
    layers.show_uncertainty(plane, [(0, 0, np.full(plane.shape, 0.5))])
    layers.show_refined(plane, Refined(np.full(plane.shape, 2), np.ones(plane.shape, np.int32)), DEFAULT_CLASSES)
    layers.show_tokens(plane, stage)
    layers.show_merge_map(plane, stage)
    layers.show_density(plane, stage)
    layers.show_pca(plane, stage.name, stage.pca)
    layers.show_suggestions(plane, [(0, (), 4, 5), (3, (), 20, 30)], 8, current=3)
    layers.show_outline(plane, [(1, 2), (3, 4), (5, 2)])


def ours(viewer):
    return [layer for layer in viewer.layers if KIND in layer.metadata]


@pytest.mark.parametrize("ndim", [2, 3])
def test_overlays_go_where_their_image_goes(viewer, layers, ndim):
    image = add_image(viewer, (4, 32, 48)[-ndim:], scale=(3, 2, 1)[-ndim:])
    plane = layers.current()
    show_everything(layers, Plane(image, plane.index, corner=(4, 8)))
    overlays = layers.overlays()
    place = np.array([1, 5, 7])

    def below(layer, depth):
        world = np.array((depth, *layer.data_to_world(place[-layer.ndim :])))[-ndim:]
        return image.world_to_data(world)[-min(layer.ndim, ndim) :]

    before = {layer: below(layer, 0) for layer in overlays}
    image.scale = (7, 0.5, 0.25)[-ndim:]
    image.translate = (9, 3, -2)[-ndim:]
    image.units = ("nm", "um", "um")[-ndim:]
    for layer in overlays:
        np.testing.assert_allclose(below(layer, 9), before[layer], err_msg=layer.name)
        assert layer.units[-2:] == image.units[-2:]


def test_overlays_carry_scale_translate_units_and_axis_labels(viewer, layers):
    image = add_image(viewer, scale=(0.5, 0.25), translate=(3, -7), units=("um", "um"), axis_labels=("row", "column"))
    show_everything(layers, layers.current())
    assert {layer.metadata[KIND] for layer in ours(viewer)} == set(Kind) - {Kind.MASKED, Kind.RECONSTRUCTION}
    for layer in ours(viewer):
        np.testing.assert_array_equal(layer.scale, image.scale, err_msg=layer.name)
        np.testing.assert_array_equal(layer.translate, image.translate, err_msg=layer.name)
        assert layer.units == image.units, layer.name
        assert layer.axis_labels == image.axis_labels, layer.name
    assert pixel_size_of(image) == PixelSize(y=0.5, x=0.25, unit="micrometer")


def test_overlays_are_updated_in_place(viewer, layers):
    add_image(viewer)
    show_everything(layers, layers.current())
    before = list(viewer.layers)
    show_everything(layers, layers.current())
    assert list(viewer.layers) == before
    layers.show_tokens(layers.current(), Stage((32, 48), tokens=11))
    [tokens] = [layer for layer in ours(viewer) if layer.metadata[KIND] == Kind.TOKENS]
    assert len(tokens.data) == 11
    areas = np.asarray(tokens.features["area"])
    assert areas.sum() == 32 * 48, "every pixel belongs to a token"
    np.testing.assert_allclose(tokens.size, np.maximum(np.sqrt(areas) * 0.75, 2))


def test_overlays_stand_above_their_own_image(viewer, layers):
    add_image(viewer)
    show_everything(layers, layers.current())
    viewer.add_image(np.zeros((8, 8)), name="other")
    layers.show_segmentation(layers.current(), Result((8, 8)))
    groups = [layer.metadata.get(GROUP, layer.name) for layer in viewer.layers]
    assert groups == ["em"] * (len(groups) - 2) + ["other"] * 2
    ranks = [list(Kind).index(layer.metadata[KIND]) for layer in ours(viewer)[:-1]]
    assert ranks == sorted(ranks)


def test_a_new_overlay_leaves_the_selection_and_the_brush(viewer, layers):
    add_image(viewer)
    plane = layers.current()
    paint = layers.create_paint(plane, DEFAULT_CLASSES, None)
    layers.hold_brush(paint, 2, 7)
    layers.show_segmentation(plane, Result(plane.shape))
    layers.show_probabilities(plane, DEFAULT_CLASSES, Result(plane.shape).probabilities)
    assert viewer.layers.selection.active is paint
    assert (paint.selected_label, paint.brush_size, paint.mode) == (2, 7, "paint")


def test_a_new_overlay_is_never_selected(viewer, layers):
    """napari would make controls for both layers, and show those of either, before the paint is chosen again."""
    add_image(viewer)
    plane = layers.current()
    paint = layers.create_paint(plane, DEFAULT_CLASSES, None)
    viewer.layers.selection.active = paint
    noticed = []
    for event in (viewer.layers.selection.events.changed, viewer.layers.selection.events.active):
        event.connect(noticed.append)
    layers.want_uncertainty(True)
    layers.show_uncertainty(plane, [(0, 0, np.ones(plane.shape))])
    assert not noticed
    assert set(viewer.layers.selection) == {paint}
    viewer.layers.selection.active = plane.layer
    assert noticed, "selections are heard again"


def test_a_selected_overlay_means_its_image(viewer, layers):
    add_image(viewer)
    viewer.add_image(np.zeros((8, 8)), name="other")
    assert layers.current().name == "other"
    paint = layers.create_paint(layers._plane(viewer.layers["em"]), DEFAULT_CLASSES, None)
    viewer.layers.selection.active = paint
    assert layers.current().name == "em"
    viewer.layers.selection.clear()
    assert layers.current().name == "em", "nothing selected: the last one"


def test_planes_of_a_stack_are_painted_and_segmented_one_by_one(viewer, layers):
    stack = add_image(viewer, (4, 16, 24), scale=(10, 2, 2), translate=(5, 0, 1), units=("nm", "nm", "nm"))
    viewer.dims.set_point(0, 5 + 10 * 2)
    plane = layers.current()
    assert plane.name == "em[2]"
    np.testing.assert_array_equal(plane.record().read()[..., 0], stack.data[2])
    paint = layers.create_paint(plane, DEFAULT_CLASSES, None)
    assert paint.data.shape == (4, 16, 24)
    paint.data[1, 3, 4:8] = 1
    paint.data[3, 3, 4:8] = 2
    assert [(record.name, int(labels.sum())) for record, labels in layers.painted_planes()] == [("em[1]", 4), ("em[3]", 8)]
    layers.show_segmentation(plane, Result(plane.shape))
    layers.show_probabilities(plane, DEFAULT_CLASSES, Result(plane.shape).probabilities)
    [segmentation] = [layer for layer in ours(viewer) if layer.metadata[KIND] == Kind.SEGMENTATION]
    assert [int(one.any()) for one in segmentation.data] == [0, 0, 1, 0]
    np.testing.assert_array_equal(segmentation.scale, stack.scale)
    [first, _] = [layer for layer in ours(viewer) if layer.metadata[KIND] == Kind.PROBABILITY]
    np.testing.assert_array_equal(first.scale, stack.scale[1:])
    np.testing.assert_array_equal(first.translate, stack.translate[1:])


def test_paint_is_counted_and_copied(viewer, layers):
    heard = []
    layers.painted.connect(lambda: heard.append(1))
    add_image(viewer)
    paint = layers.create_paint(layers.current(), DEFAULT_CLASSES, None)
    heard.clear()
    paint.paint((10, 10), 1)
    assert heard
    assert layers.painted_pixels() == {1: int((paint.data == 1).sum())}
    [(record, copied)] = list(layers.painted_planes())
    paint.data[0, 0] = 2
    assert record.name == "em"
    assert copied[0, 0] == 0, "the job's copy does not change under it"


def test_saved_paint_comes_back_only_if_it_fits(viewer, layers):
    add_image(viewer)
    saved = np.full((32, 48), 2, np.uint8)
    paint = layers.create_paint(layers.current(), DEFAULT_CLASSES, saved)
    np.testing.assert_array_equal(paint.data, saved)
    viewer.layers.remove(paint)
    assert not layers.create_paint(layers.current(), DEFAULT_CLASSES, saved[:5]).data.any()


def test_class_colors_reach_paint_and_segmentation(viewer, layers):
    add_image(viewer)
    plane = layers.current()
    paint = layers.create_paint(plane, DEFAULT_CLASSES, None)
    layers.color_classes((DEFAULT_CLASSES[0].replace(color="#ff0000"), DEFAULT_CLASSES[1]))
    np.testing.assert_allclose(paint.get_color(1), (1, 0, 0, 1))
    assert paint.get_color(0) is None or paint.get_color(0)[3] == 0


@pytest.mark.parametrize("how", ["at once", "live", "stored", "refined"])
def test_strokes_are_seen_on_a_segmentation_of_their_own_class(viewer, layers, how):
    add_image(viewer)
    plane, ids = layers.current(), np.full((32, 48), 2, np.uint8)
    if how == "live":
        layers.show_parts(plane, [LivePrediction("live", 1, "em", 0, 0, ids, True)], DEFAULT_CLASSES)
    elif how == "stored":
        layers.show_stored(plane, [ids, ids[::2, ::2]], DEFAULT_CLASSES)
    elif how == "refined":
        layers.show_refined(plane, Refined(ids, None), DEFAULT_CLASSES)
    else:
        layers.show_segmentation(plane, Result((32, 48)))
    [predicted] = ours(viewer)
    paint = layers.create_paint(plane, DEFAULT_CLASSES, None)
    # So much of the difference between a pixel's own grey and the colour of the class is left for the stroke to make.
    assert paint.opacity * (1 - predicted.opacity) > 0.6


def test_overlays_of_an_image_that_is_not_seen_are_made_hidden(viewer, layers):
    image = add_image(viewer)
    plane = layers.current()
    image.visible = False
    for _ in range(2):  # made, and updated
        show_everything(layers, plane)
        assert [layer.name for layer in ours(viewer) if layer.visible] == []
    image.visible = True
    layers.show_segmentation(plane, Result(plane.shape))
    assert [layer.metadata[KIND] for layer in ours(viewer) if layer.visible] == [Kind.SEGMENTATION]


def test_overlays_that_are_looked_at_without_their_image_stay_seen(viewer, layers):
    image = add_image(viewer)
    plane = layers.current()
    layers.show_segmentation(plane, Result(plane.shape))
    image.visible = False
    layers.show_segmentation(plane, Result(plane.shape))
    [segmentation] = ours(viewer)
    assert segmentation.visible
    layers.show_refined(plane, Refined(np.full(plane.shape, 2), None), DEFAULT_CLASSES)
    assert [layer.metadata[KIND] for layer in ours(viewer) if layer.visible] == [Kind.REFINED]


@pytest.mark.parametrize("count", [1, 2, 10])
def test_outlines_of_objects_are_seen_on_their_classes(viewer, layers, count):
    """The classes lie on the image with part of their opacity, and that may be dark or bright."""
    add_image(viewer)
    plane = layers.current()
    classes = default_classes(range(1, count + 1))
    layers.show_refined(plane, Refined(np.full(plane.shape, 2), np.ones(plane.shape, np.int32)), classes)
    [objects] = (layer for layer in ours(viewer) if layer.metadata[KIND] is Kind.INSTANCES)
    outlines = rgb2lab(objects.colormap.map(np.arange(1, 200))[:, None, :3])
    colors = np.array([list(bytes.fromhex(info.color[1:])) for info in classes]) / 255
    for grey in (0, 0.3, 0.6, 1):
        assert np.linalg.norm(outlines - rgb2lab(PREDICTED * colors[None] + (1 - PREDICTED) * grey), axis=-1).min() > 25
    assert len(np.unique(outlines, axis=0)) > 10


def test_the_density_of_tokens_bleaches_no_bright_image(viewer, layers):
    add_image(viewer)
    plane = layers.current()
    layers.show_density(plane, Stage(plane.shape))
    [density] = ours(viewer)
    assert density.blending == "translucent"
    assert density.opacity < 1


@pytest.mark.parametrize("state", STATES)
def test_the_state_of_a_selected_image_keeps_its_colours(qapp, state):
    plain, selected = (state_icon(state).pixmap(14, mode).toImage() for mode in (QIcon.Mode.Normal, QIcon.Mode.Selected))
    assert plain == selected


def test_whoever_paints_sees_the_paint(viewer, layers):
    image = add_image(viewer)
    image.visible = False
    plane = layers.current()
    assert not layers.create_paint(plane, DEFAULT_CLASSES, None).visible
    assert layers.paint_on(plane, DEFAULT_CLASSES).visible


def test_previews_lie_beside_the_image_in_its_pixels(viewer, layers):
    size = PixelSize(y=4, x=4, unit="nanometer")
    add_image(viewer, scale=(4, 4), units=("nm", "nm"))
    tile = np.random.default_rng(0).random((16, 16), np.float32)
    layers.show_preview(Preview("pretrain", 1, tile, tile, tile), size)
    masked, reconstruction = ours(viewer)
    assert masked.translate[1] >= 48 * 4
    assert reconstruction.translate[1] >= masked.translate[1] + 16 * 4
    np.testing.assert_array_equal(masked.scale, (4, 4))
    layers.show_preview(Preview("pretrain", 2, 1 - tile, tile, tile), size)
    assert ours(viewer) == [masked, reconstruction]
    np.testing.assert_array_equal(masked.data, 1 - tile)
    color = np.zeros((16, 16, 3), np.float32)
    layers.show_preview(Preview("pretrain", 3, color, color, color), size)
    assert [layer.rgb for layer in ours(viewer)] == [True, True]


def test_opening_an_image_hides_the_one_before(viewer, layers, tmp_path):
    records = [ImageRecord(f"{name}.png", 8, 8, 1, "uint8", PixelSize(y=2, x=2), path=tmp_path / name) for name in "ab"]
    for record in records:
        layers.open_image(record, np.zeros((8, 8, 1), np.uint8))
    assert [layer.visible for layer in viewer.layers] == [False, True]
    layers.open_image(records[0], np.zeros((8, 8, 1), np.uint8))
    assert len(viewer.layers) == 2
    assert [layer.visible for layer in viewer.layers] == [True, False]
    assert layers.current().record() is records[0]
    assert pixel_size_of(viewer.layers[0]) == PixelSize(y=2, x=2)


def test_opening_an_image_hides_the_preview_until_the_next_run(viewer, layers, tmp_path):
    tile = np.zeros((16, 16), np.float32)
    layers.show_preview(Preview("pretrain", 1, tile, tile, tile), None)
    layers.open_image(ImageRecord("a.png", 8, 8, 1, "uint8", None, path=tmp_path / "a.png"), np.zeros((8, 8, 1), np.uint8))
    assert [layer.visible for layer in ours(viewer)] == [False, False]
    layers.show_preview(Preview("pretrain", 2, tile, tile, tile), None)
    assert [layer.visible for layer in ours(viewer)] == [False, False], "a run goes on behind the image"
    layers.reveal_preview()
    assert [layer.visible for layer in ours(viewer)] == [True, True]


def test_the_preview_goes_with_the_images_that_it_was_of(viewer, layers):
    """Beside others it would lie in pixels of another size."""
    tile = np.zeros((16, 16), np.float32)
    layers.show_preview(Preview("pretrain", 1, tile, tile, tile), None)
    add_image(viewer)
    layers.close_opened()
    assert [layer.name for layer in viewer.layers] == ["em"]


@pytest.mark.parametrize(("channels", "rgb"), [(1, False), (2, True), (3, True), (5, True)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_any_number_of_channels_can_be_shown(channels, rgb, dtype):
    pixels = (np.random.default_rng(0).random((8, 8, channels)) * 200).astype(dtype)
    shown, is_rgb = for_display(pixels)
    assert is_rgb is rgb
    assert shown.shape == ((8, 8, 3) if rgb else (8, 8))
    Image(shown, rgb=is_rgb)


def test_colours_of_a_large_image_are_stretched_by_a_sample_of_it(monkeypatch):
    pixels = np.random.default_rng(0).integers(100, 4000, (1100, 1100, 3)).astype(np.uint16)
    percentile, sizes = np.percentile, []
    low, high = percentile(pixels, (0.1, 99.9), axis=(0, 1))
    monkeypatch.setattr(np, "percentile", lambda one, *at, **how: (sizes.append(one.size), percentile(one, *at, **how))[1])
    shown, _ = for_display(pixels)
    assert sizes == [pixels.size / 4]
    assert shown.dtype == np.float32
    np.testing.assert_allclose(shown, np.clip((pixels - low) / (high - low), 0, 1), atol=0.01)


def test_alpha_and_pyramids_are_read_as_the_jobs_need_them(viewer, layers):
    rgba = np.random.default_rng(0).integers(0, 255, (8, 8, 4), np.uint8)
    viewer.add_image(rgba, name="rgba", rgb=True)
    np.testing.assert_array_equal(layers.current().record().read(), rgba[..., :3])
    fine = np.random.default_rng(0).random((16, 16))
    viewer.add_image([fine, fine[::2, ::2]], name="pyramid", multiscale=True)
    assert layers.current().shape == (16, 16)
    np.testing.assert_array_equal(layers.current().record().read()[..., 0], fine)


def test_a_dock_that_is_gone_hears_nothing(viewer, layers):
    heard = []
    layers.current_changed.connect(lambda: heard.append(1))
    add_image(viewer)
    assert heard
    layers.disconnect()
    heard.clear()
    viewer.add_labels(np.zeros((4, 4), int))
    assert not heard
    assert isinstance(viewer.layers[-1], Labels)


def test_hot_pixels_do_not_leave_an_image_black(viewer, layers, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 60, (200, 300, 1)).astype(np.uint8)
    pixels[:4, :4] = 255
    layers.open_image(ImageRecord("em.png", 200, 300, 1, "uint8", path=tmp_path / "em.png"), pixels)
    image = viewer.layers["em.png"]
    assert image.contrast_limits == pytest.approx([0, 59], abs=1)
    assert image.contrast_limits_range == [0, 255], "the slider reaches all values"


@pytest.mark.parametrize("pixels", [np.full((8, 8), 3, np.uint8), np.full((8, 8), np.nan), np.zeros((0, 8)), [np.ones((4, 4))]])
def test_what_has_no_range_is_left_to_napari(pixels):
    assert grey_limits(pixels) is None


def test_rings_are_seen_on_their_own_slice_of_a_stack_with_units(viewer, layers):
    viewer.add_image(np.zeros((5, 32, 48)), name="stack", scale=(50, 4, 4), translate=(10, 0, 0), units=("nm",) * 3)
    plane = layers.current()
    layers.show_suggestions(plane, [(0, (3,), 8, 9), (1, (1,), 20, 30), (2, (0,), 4, 5)], 8, current=0)
    (rings,) = [layer for layer in ours(viewer) if layer.metadata[KIND] == Kind.SUGGESTIONS]
    for number, index in enumerate((3, 1, 0)):
        viewer.dims.set_point(0, 10 + 50 * index)
        np.testing.assert_array_equal(rings._view_data, rings.data[number::3, 1:])


def test_paint_stays_with_an_image_that_is_renamed(viewer, layers):
    image = add_image(viewer)
    layers.create_paint(layers.current(), DEFAULT_CLASSES, None).data[3, 3] = 1
    image.name = "other"
    [(record, labels)] = layers.painted_planes()
    assert record.name == "em", "as it is called in the project"
    assert labels[3, 3] == 1
    layers.create_paint(layers.current(), DEFAULT_CLASSES, None)
    assert len(ours(viewer)) == 1


def test_an_image_of_a_name_that_was_given_away_has_paint_of_its_own(viewer, layers):
    image = add_image(viewer)
    layers.create_paint(layers.current(), DEFAULT_CLASSES, None).data[3, 3] = 1
    image.name = "other"
    add_image(viewer)
    viewer.add_image(image.data, name="copy", metadata=dict(image.metadata))
    groups = [Plane(one, ()).group for one in layers.images()]
    assert groups[0] == "em"
    assert len(set(groups)) == 3
    assert groups[2] == "copy"
    assert len(list(layers.painted_planes())) == 1
