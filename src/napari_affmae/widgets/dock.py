"""The dock widget: four steps in order, one status line, one job at a time."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from napari.settings import get_settings
from napari.utils.notifications import show_info
from qtpy.QtCore import QEvent, QObject, QPoint, QTimer
from qtpy.QtWidgets import (
    QApplication,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from .at_exit import before_threads_end
from .colors import mixed
from .cut_short import ended_by_closing
from .forms import ScrollArea
from .gl_context import CanvasContext, main_window_of
from .images_step import ImagesStep
from .jobs import Engine
from .label_step import LabelStep
from .look_step import LookStep
from .pretrain_step import PretrainStep
from .section import Section
from .sentences import Sentences
from .session import Session
from .settings_store import SettingsStore
from .state import LoopState, Phase

if TYPE_CHECKING:
    from napari.viewer import Viewer
    from qtpy.QtGui import QCloseEvent, QShowEvent

NARROWEST = 360


class AffmaeDock(QWidget):
    """The whole loop in one dock: images, pretraining, paint and training, looking inside.

    Parameters
    ----------
    napari_viewer
        The viewer that shows images and overlays.
    engine
        What runs the jobs; tests put a fake here.
    store
        Where the settings live; None takes the user's configuration folder.
    """

    def __init__(self, napari_viewer: Viewer, engine: Engine | None = None, store: SettingsStore | None = None) -> None:
        super().__init__()
        self.setObjectName("napari-affmae")
        self.session = Session(napari_viewer, engine or Engine(), store or SettingsStore())
        self.images = ImagesStep(self.session)
        self.pretrain = PretrainStep(self.session)
        self.label = LabelStep(self.session)
        self.look = LookStep(self.session)
        self.sections = (
            Section("1  Images", self.images),
            Section("2  Pretrain", self.pretrain),
            Section("3  Label and finetune", self.label),
            Section("4  Look inside", self.look),
        )
        self.status = Sentences()
        self._lay_out()
        self._connect(napari_viewer)
        self.sections[0].open()
        folder = Path(self.images.folder.text()).name
        self.session.say(f"Click Read folder to go on with “{folder}”." if folder else "Choose images to begin.")
        self.session.begin()

    def _lay_out(self) -> None:
        steps = QWidget()
        inner = QVBoxLayout(steps)
        inner.setContentsMargins(4, 4, 4, 4)
        inner.setSpacing(4)
        for section in self.sections:
            inner.addWidget(section)
        inner.addStretch(1)
        self.status.setContentsMargins(10, 4, 10, 6)
        self.status.setObjectName("affmae-status")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        self._area = ScrollArea(steps, NARROWEST)
        self._opened = self.sections[0]
        self._scroll = QTimer(self)
        self._scroll.setSingleShot(True)
        self._scroll.timeout.connect(self._show_opened)
        layout.addWidget(self._area, 1)
        layout.addWidget(self.status)

    def _connect(self, viewer: Viewer) -> None:
        session = self.session
        for section in self.findChildren(Section):
            section.heading.clicked.connect(partial(self._scroll_to, section))
        session.status.connect(self._show_status)
        session.runner.batch.connect(self.pretrain.draw)
        session.state.events.connect(self._render)
        self._viewer = viewer
        viewer.events.theme.connect(self._use_theme)
        get_settings().appearance.events.font_size.connect(self._use_theme)
        session.closing.connect(self._leave_theme, max_args=0)
        self._canvas = CanvasContext(viewer, self)
        session.closing.connect(self._canvas.disconnect, max_args=0)
        self._use_theme()
        # The dock's own window may be deleted without any other word to us.
        self.destroyed.connect(lambda: session.close(0))
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(session.close)
        # A script may end without ever running the event loop.
        before_threads_end(session.close)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Close with napari's window. If the user may still change their mind, napari stops the job itself."""
        if event is not None and event.type() == QEvent.Type.Close and not event.spontaneous():
            self.shut_down()
        return bool(super().eventFilter(watched, event))

    def showEvent(self, event: QShowEvent | None) -> None:
        """Watch the window that the dock is shown in."""
        super().showEvent(event)
        window = main_window_of(self)
        if window is not None:
            # Installing it again is harmless.
            window.installEventFilter(self)

    def changeEvent(self, event: QEvent | None) -> None:
        """Close when napari takes the widget out of its dock."""
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None:
            ends = None if self.session.closed else ended_by_closing(self.session.state)
            if self.shut_down() and ends is not None:
                show_info(ends)
        super().changeEvent(event)

    def closeEvent(self, event: QCloseEvent | None) -> None:
        """Close when shown as a window of its own."""
        self.shut_down()
        super().closeEvent(event)

    def shut_down(self) -> bool:
        """Keep settings and paint and stop the job, and return whether it has ended; the layers stay in the viewer."""
        return self.session.close()

    def load_model(self, path: Path) -> None:
        """Use a model file, for example one dropped onto the viewer."""
        self.pretrain.load_model(path)

    def press(self, button: QPushButton) -> None:
        """Click a button of the dock, or say why that makes no sense now."""
        if button.isEnabled():
            button.click()
        else:
            self.session.warn(button.toolTip())

    def open_step(self, number: int) -> None:
        """Open step 1 to 4 and close the others."""
        for place, section in enumerate(self.sections, start=1):
            section.open(place == number)

    def _scroll_to(self, section: Section, *_: object) -> None:
        """Scroll so far that a section that was opened just now is seen, its heading in any case."""
        if section.is_open():
            # It has its new height once the layout had its turn.
            self._opened = section
            self._scroll.start(0)

    def _show_opened(self) -> None:
        section = self._opened
        top, bar = section.mapTo(self._area.widget(), QPoint(0, 0)).y(), self._area.verticalScrollBar()
        missing = top + section.height() - self._area.viewport().height()
        bar.setValue(max(bar.value(), min(top, missing)))

    def _show_status(self, text: str, is_error: bool) -> None:
        self.status.setText(text)
        self.status.setProperty("error", is_error)
        self._color_status()

    def _use_theme(self) -> None:
        self.pretrain.curve.use_theme(self._viewer.theme)
        self._color_status()

    def _leave_theme(self) -> None:
        self._viewer.events.theme.disconnect(self._use_theme)
        get_settings().appearance.events.font_size.disconnect(self._use_theme)

    def _color_status(self) -> None:
        from napari.utils.theme import get_theme

        theme = get_theme(self._viewer.theme)
        heading = theme.foreground.as_hex("long")
        # napari gives its font size to most kinds of widgets, but not to tables, lines and headings.
        font = f"#{self.objectName()} QWidget {{ font-size: {get_settings().appearance.font_size}pt; }}"
        _restyle(self, f"{font} #affmae-heading {{ background: {heading}; border-radius: 3px; }}")
        color = theme.text.as_hex("long")
        if self.status.property("error"):
            # The theme's red is made for backgrounds; half way to the text it can be read on the dark theme too.
            color = mixed(theme.error.as_hex("long"), color)
        _restyle(self.status, f"#affmae-status {{ color: {color}; }}")

    def _render(self) -> None:
        for section, summary in zip(self.sections, summaries(self.session.state), strict=True):
            section.set_summary(summary)


def _restyle(widget: QWidget, sheet: str) -> None:
    """Give a widget a style sheet if it has another one: Qt measures everything inside anew, which takes the dock 50 ms."""
    if widget.styleSheet() != sheet:
        widget.setStyleSheet(sheet)


def summaries(state: LoopState) -> tuple[str, str, str, str]:
    """Return what each step has reached, for its heading."""
    images = "" if state.images is None else state.images.contents
    steps = {
        "pretrain": 1,
        "finetune": 2,
        "compare": 2,
        "segment": 2,
        "apply": 2,
        "suggest": 2,
        "export": 2,
        "inspect": 3,
    }
    running = steps.get(state.job or "")
    said = [images, "" if state.pretrained is None else "model ready", "" if state.segmenter is None else "trained", ""]
    if running is not None and state.phase is not Phase.IDLE:
        said[running] = state.phase.value
    return said[0], said[1], said[2], said[3]
