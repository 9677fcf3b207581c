"""Which networks are in use, remembered in the project, and taken up again when it is opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AffmaeError
from ..model_places import RunKind, models_of
from .class_ids import in_layers

if TYPE_CHECKING:
    from .session import Session
    from .state import ModelOnDisk


class Networks:
    """Keeps both in the project's settings.

    A project that brings none leaves those of the one before in use, except for a segmenter that calls its classes otherwise.
    What was loaded before any images were chosen is what the user wants, whatever their project brings.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._takes = False
        self._wanted: set[Path] = set()
        self._project: Path | None = None
        session.state.events.pretrained.connect(self._remember)
        session.state.events.segmenter.connect(self._remember)
        session.project_opened.connect(self._take_up)

    def _remember(self) -> None:
        if self._takes:
            return
        state = self._session.state
        if not state.source:
            self._wanted |= {model.path for model in (state.pretrained, state.segmenter) if model is not None}
        self._keep()

    def _keep(self) -> None:
        keeper, state = self._session.keeper, self._session.state
        pretrained, segmenter = (self._place(model) for model in (state.pretrained, state.segmenter))
        keeper.update(settings=keeper.file.settings.replace(pretrained=pretrained, segmenter=segmenter))

    def _take_up(self) -> None:
        state, settings = self._session.state, self._session.keeper.file.settings
        again = self._project == self._session.project
        self._project = self._session.project
        before = state.pretrained, state.segmenter
        self._takes = True
        try:
            if not self._is_wanted(state.pretrained):
                state.pretrained = self._found(settings.pretrained, "pretrain") or state.pretrained
            if not self._is_wanted(state.segmenter):
                state.segmenter = self._found(settings.segmenter, "finetune") or self._that_fits()
        finally:
            self._takes = False
        if state.source:
            self._wanted.clear()
        after = state.pretrained, state.segmenter
        self._keep()
        replaced = [old for old, new in zip(before, after, strict=True) if old not in (None, new)]
        if replaced and not again:  # who went back to a snapshot knows
            # By their whole path: networks of all projects are called alike.
            gone = " and ".join(str(model.path) for model in replaced)
            brings = any(model not in (None, *before) for model in after)
            why = "This project brings its own" if brings else "This project gives other names to its classes"
            self._session.inform(f"{why}: {gone} is not in use any more.")

    def _is_wanted(self, model: ModelOnDisk | None) -> bool:
        return model is not None and model.path in self._wanted

    def _that_fits(self) -> ModelOnDisk | None:
        """Return the segmenter in use, unless this project knows its classes by other names.

        One that begins has its class table from the project before, where classes may have been renamed since the training.
        """
        state = self._session.state
        if state.segmenter is None or not self._session.keeper.file.images:
            return state.segmenter
        names = {info.id: info.name for info in state.classes}
        others = [info for info in in_layers(state.segmenter.card.classes) if names.get(info.id) != info.name]
        return None if others else state.segmenter

    def _found(self, place: str | None, kind: RunKind) -> ModelOnDisk | None:
        """Read what was in use last, or, where that is not known or gone, what was trained last; None if none was in use."""
        for path in models_of(self._session.project, kind, place):
            try:
                model = self._session.engine.read_model(path)
            except (AffmaeError, OSError):  # cut off while it was written, or on a share that is away: an older one will do
                continue
            if model.is_segmenter or kind == "pretrain":
                return model
        return None

    def _place(self, model: ModelOnDisk | None) -> str:
        """Return where a model lies, as seen from the project, which may be moved."""
        if model is None:
            return ""
        project, path = self._session.project.absolute(), Path(model.path).absolute()
        return (path.relative_to(project) if path.is_relative_to(project) else path).as_posix()
