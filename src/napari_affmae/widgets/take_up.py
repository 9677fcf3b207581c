"""What happens to paint and predictions in the viewer when the project becomes another one, or another state of the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .kinds import PROJECT

if TYPE_CHECKING:
    from ..data.project_folder import ProjectFile
    from .session import Session


def take_up(session: Session, file: ProjectFile, *, anew: bool) -> None:
    """Let the viewer show what the project holds.

    What lies on an image goes with it into a project that has nothing of that image yet; where it has something, that is shown
    instead. What an earlier dock left of this very project stays as it is, as it may have been painted on since.

    Parameters
    ----------
    file
        What the project holds.
    anew
        The project was changed on disk: all that it does not hold goes, and all that it holds is read.
    """
    layers, keeper, identity = session.layers, session.keeper, session.identity
    here = str(keeper.folder)
    session.class_edits.forget()
    session.restorer.begin_anew()
    with keeper.ignoring():
        # What is in these layers is kept in the project before; they go before anything, colours even, can draw them anew.
        for layer in layers.orphans():
            if anew or layer.metadata.get(PROJECT) != here:
                layers.remove(layer)
        identity.take_up(here)
        planes = layers.planes_with_paint()
        stays = [] if anew else [plane for plane in planes if layers.kept(plane.group)[0].metadata.get(PROJECT) == here]
        replaced = [plane for plane in planes if plane not in stays and (anew or keeper.has_labels(plane.group))]
        for plane in replaced:
            layers.remove_kept(plane.group)
        if file.classes:
            session.state.classes = file.classes
    if not file.classes:
        keeper.set_classes(session.state.classes)
    for plane in planes:
        if plane in replaced:
            session.restorer.restore(plane)
        for layer in layers.kept(plane.group):
            keeper.note(layer)
    identity.remember()
    session.count_paint()
