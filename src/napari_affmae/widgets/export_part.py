"""A part of step 3 that makes a package of the model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QLineEdit, QPushButton, QWidget

from ..config import ExportConfig
from ..events import Done, PartBegun
from ..words import sentence
from .export_job import export_job
from .forms import JobBar, form_layout, note, row, set_live, set_note, step_layout
from .state import why_not_export, why_not_stop

if TYPE_CHECKING:
    from .session import Session

LICENCES = ("CC-BY-4.0", "CC0-1.0", "MIT", "BSD-3-Clause")


class ExportPart(QWidget):
    """Name, authors, licence, and the button that exports."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        settings = session.settings
        self.explanation = note(
            "One file in the format of the BioImage Model Zoo, for other programs to segment with. "
            "It cannot be trained further: keep the saved model."
        )
        self.name = QLineEdit()
        self.name.setPlaceholderText("from the class names")
        self.authors = QLineEdit(settings.export_authors)
        self.authors.setPlaceholderText("Name; affiliation | Name; affiliation")
        self.licence = QComboBox()
        self.licence.setEditable(True)
        self.licence.addItems(LICENCES)
        self.licence.setCurrentText(settings.export_licence)
        self.licence.setToolTip("Under which licence others may use the weights: an SPDX identifier")
        self.cite = QLineEdit()
        self.cite.setPlaceholderText("Doe 2026, 10.1234/abc")
        self.example = QCheckBox("Publish the shown image, too")
        self.example.setToolTip("The package holds an image for everybody to see: the middle of the shown one, or a drawn one")
        self.export = QPushButton("Export …")
        self.stop = QPushButton("Stop")
        self.bar = JobBar("")
        self.result = note()
        self._missing = session.engine.why_not_export()
        self._lay_out()
        self.export.clicked.connect(self._choose_file)
        self.stop.clicked.connect(session.stop)
        session.event.connect(self._on_event)
        session.job_ended.connect(self._on_job_ended)
        session.state.events.connect(self._render)
        self._render()

    def _lay_out(self) -> None:
        layout = step_layout(self)
        layout.addWidget(self.explanation)
        form = form_layout()
        form.addRow("Name", self.name)
        form.addRow("Authors", self.authors)
        form.addRow("Licence", self.licence)
        form.addRow("Cite", self.cite)
        layout.addLayout(form)
        layout.addWidget(self.example)
        layout.addLayout(row(self.export, self.stop))
        layout.addWidget(self.bar)
        layout.addWidget(self.result)

    def _choose_file(self) -> None:
        start = str(self._session.project / "segmenter-bioimageio.zip")
        path, _ = QFileDialog.getSaveFileName(self, "Export the model", start, "Packages (*.zip)")
        if path:
            self.export_to(Path(path))

    def export_to(self, path: Path) -> None:
        """Export to a file, which may be replaced: the dialog has asked."""
        session = self._session
        model = session.state.segmenter
        if model is None:
            return
        authors = self.authors.text().strip()
        licence = self.licence.currentText().strip()
        session.settings = session.settings.replace(export_authors=authors, export_licence=licence)
        cite = self.cite.text().strip()
        config = ExportConfig(
            name=self.name.text().strip() or None,
            authors=tuple(part.strip() for part in authors.split("|") if part.strip()),
            licence=licence,
            cite=(cite,) if cite else (),
        )
        plane = session.layers.current() if self.example.isChecked() else None
        self.bar.start()
        set_note(self.result, "")
        sample = None if plane is None else plane.record()
        session.start("export", export_job(session.engine, model.path, path, config, sample))

    def _on_event(self, event: object) -> None:
        if self._session.state.job != "export":
            return
        if isinstance(event, PartBegun):
            self.bar.show_fraction(event.fraction, f"{event.fraction:.0%}")
            self._session.say(sentence(f"{event.what} …"))
        elif isinstance(event, Done):
            self._show_end(event)

    def _show_end(self, done: Done) -> None:
        made = done.result
        if made is None:
            self._session.say("Stopped: nothing was written.")
            return
        text = f"Wrote {made.path} for tiles of {made.tile} × {made.tile} pixels"
        text += "; bioimageio.core ran it without napari." if made.check is not None else "."
        set_note(self.result, text)
        self._session.inform(text)

    def _on_job_ended(self, name: str) -> None:
        if name == "export":
            self.bar.setVisible(False)

    def _render(self) -> None:
        state = self._session.state
        set_live(self.export, why_not_export(state, self._missing), "Write a package and let bioimageio.core check it")
        set_live(self.stop, why_not_stop(state, "export"), "End without a package")
        for widget in (self.name, self.authors, self.licence, self.cite):
            widget.setEnabled(state.job != "export")
        self.example.setEnabled(state.image is not None and state.job != "export")
