"""Entries of napari's layer menus: each opens the dock at the step that does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari import current_viewer

from ..errors import AffmaeError

if TYPE_CHECKING:
    from .dock import AffmaeDock


def open_dock() -> AffmaeDock:
    """Return the dock of the current viewer, opening it if need be.

    Raises
    ------
    AffmaeError
        If no viewer is open.
    """
    viewer = current_viewer()
    if viewer is None:
        raise AffmaeError("no napari viewer is open: start napari first")
    dock_widget, dock = viewer.window.add_plugin_dock_widget("napari-affmae", "AFFMAE")
    dock_widget.show()
    dock_widget.raise_()
    return dock  # type: ignore[no-any-return]


def annotate() -> None:
    """Open step 3 and take the brush, or say what is missing."""
    dock = open_dock()
    dock.open_step(3)
    dock.press(dock.label.paint)


def segment() -> None:
    """Open step 3 and segment the current image, or say what is missing."""
    dock = open_dock()
    dock.open_step(3)
    dock.press(dock.label.segment)


def look() -> None:
    """Open step 4 and show the token map of the current image, or say what is missing."""
    dock = open_dock()
    dock.open_step(4)
    dock.press(dock.look.tokens)
