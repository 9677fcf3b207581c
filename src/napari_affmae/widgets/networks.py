"""Which networks are in use, remembered in the project, and taken up again when it is opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AffmaeError
from .project import RunKind, runs

if TYPE_CHECKING:
    from .session import Session
    from .state import ModelOnDisk

MODEL = "model.safetensors"
"""The model in a run folder; :mod:`~napari_affmae.model_header`, which reads it, is loaded when there is one."""


class Networks:
    """Keeps both in the project's settings; a project that never had any leaves those of the one before in use."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._takes = False
        session.state.events.pretrained.connect(self._remember)
        session.state.events.segmenter.connect(self._remember)
        session.project_opened.connect(self._take_up)

    def _remember(self) -> None:
        if self._takes:
            return
        keeper, state = self._session.keeper, self._session.state
        pretrained, segmenter = (self._place(model) for model in (state.pretrained, state.segmenter))
        keeper.update(settings=keeper.file.settings.replace(pretrained=pretrained, segmenter=segmenter))

    def _take_up(self) -> None:
        state, settings = self._session.state, self._session.keeper.file.settings
        self._takes = True
        try:
            state.pretrained = self._found(settings.pretrained, "pretrain") or state.pretrained
            state.segmenter = self._found(settings.segmenter, "finetune") or state.segmenter
        finally:
            self._takes = False

    def _found(self, place: str, kind: RunKind) -> ModelOnDisk | None:
        """Read what was in use last, or, where that is not known or gone, what was trained last."""
        project = self._session.project
        places = [project / place] if place else []
        for path in [*places, *(run / MODEL for run in reversed(runs(project, kind)))]:
            if path.is_file():
                try:
                    return self._session.engine.read_model(path)
                except AffmaeError:  # cut off while it was written, say: an older one will do
                    continue
        return None

    def _place(self, model: ModelOnDisk | None) -> str:
        """Return where a model lies, as seen from the project, which may be moved."""
        if model is None:
            return ""
        project, path = self._session.project.absolute(), Path(model.path).absolute()
        return str(path.relative_to(project) if path.is_relative_to(project) else path)
