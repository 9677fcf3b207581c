"""What the dock knows, and what follows from it: which buttons are live, and why not.

Nothing here imports Qt. Widgets listen to ``state.events`` and ask the ``why_not_*`` functions; each returns None when the
action makes sense now, or one sentence for the button's tooltip.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from psygnal import SignalGroupDescriptor

from ..card import ClassInfo, ModelCard, PixelSize
from ..data.pixel_size import is_other_scale, scale_factors
from ..errors import LabelError
from ..model_config import STAGE_NAMES
from ..palette import BACKGROUND_COLOR, next_color
from ..words import count as count  # the forms say numbers as the command line does
from ..words import thousands as thousands
from .channel_counts import channels_mismatch, fitting

if TYPE_CHECKING:
    from ..data.records import ImageCollection, ImageRecord
    from .project import LastRun

JobName = Literal["scan", "load", "pretrain", "finetune", "compare", "segment", "apply", "suggest", "inspect", "export"]

JOB_WORDS: dict[JobName, str] = {
    "scan": "reading images",
    "load": "reading the model",
    "pretrain": "pretraining",
    "finetune": "training",
    "compare": "comparing",
    "segment": "segmenting",
    "apply": "segmenting all images",
    "suggest": "looking for places to paint",
    "inspect": "looking inside",
    "export": "exporting the model",
}
"""How a running job is called in a sentence."""

DECODER = "decoder"
"""The choice in step 4 behind the four encoder stages."""

VIEWS = (*STAGE_NAMES, DECODER)

MOST_CLASS_ID = 255
"""Layers of labels are uint8, here and on disk."""

DEFAULT_CLASSES = (
    ClassInfo(id=1, name="background", color=BACKGROUND_COLOR),
    ClassInfo(id=2, name="structure", color=next_color([BACKGROUND_COLOR])),
)


class Phase(Enum):
    """Where the one job of the dock stands."""

    IDLE = "idle"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    FINISHING = "finishing"
    """The steps were stopped; what follows them goes on, and can be stopped, too, but no longer held still."""


@dataclass(frozen=True)
class ModelOnDisk:
    """A model file and what its header says."""

    path: Path
    channels: int
    num_classes: int
    card: ModelCard

    @property
    def is_segmenter(self) -> bool:
        """Whether the file holds a network with classes."""
        return self.num_classes > 0

    def describe(self) -> str:
        """Return one line for people."""
        kind = f"segmentation network, {self.num_classes} classes" if self.is_segmenter else "pretrained network"
        channels = count(self.channels, "channel")
        pixel_size = describe_pixel_size(self.card.pixel_size)
        return f"{self.path.parent.name}/{self.path.name}: {kind}, {channels}, pixel size {pixel_size}"


@dataclass(frozen=True)
class CurrentImage:
    """The image that steps 3 and 4 work on: one plane of one layer."""

    name: str
    height: int
    width: int
    pixel_size: PixelSize | None
    channels: int = 1


@dataclass
class LoopState:
    """Everything the four steps share. Assigning a field emits ``events`` (psygnal), so that every form follows.

    Attributes
    ----------
    images
        The collection chosen in step 1.
    source
        Where it comes from, for people.
    image
        The image that is worked on now.
    pretrained
        The network that finetuning starts from, or None.
    segmenter
        The network that segments, or None.
    last_runs
        The last run of each kind in the project, if it can go on.
    classes
        The class table, in order.
    painted
        Painted pixels per class id in all paint layers.
    job, phase
        The running job, if any, and where it stands.
    """

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor()

    images: ImageCollection | None = None
    source: str = ""
    image: CurrentImage | None = None
    pretrained: ModelOnDisk | None = None
    segmenter: ModelOnDisk | None = None
    last_runs: Mapping[JobName, LastRun] = field(default_factory=dict)
    classes: tuple[ClassInfo, ...] = DEFAULT_CLASSES
    painted: Mapping[int, int] = field(default_factory=dict)
    job: JobName | None = None
    phase: Phase = Phase.IDLE

    @property
    def idle(self) -> bool:
        """Whether a new job can start."""
        return self.phase is Phase.IDLE

    @property
    def channels(self) -> int | None:
        """How many channels the current image has, or else the images of step 1; None if there are neither."""
        of = self.image or self.images
        return None if of is None else of.channels

    @property
    def model(self) -> ModelOnDisk | None:
        """The network to look into: of those that take the image the newest one, with classes if there is one."""
        return fitting(self.channels, self.segmenter, self.pretrained)

    def live_start(self, from_scratch: bool = False) -> ModelOnDisk | None:
        """Return the network that live mode goes on with; None if it is to begin a new one."""
        if from_scratch:
            return None if channels_mismatch(self.segmenter, self.channels) else self.segmenter
        return self.model


def _busy(state: LoopState) -> str | None:
    if state.idle or state.job is None:
        return None
    return f"Wait until {JOB_WORDS[state.job]} has ended, or stop it."


def first_of_all(state: LoopState, *why_not: str | None) -> str:
    """Return what is to be done before a step can begin, of what its buttons say; that a job is under way is seen."""
    return next((one for one in why_not if one is not None and one != _busy(state)), "")


def why_not_scan(state: LoopState) -> str | None:
    """Ask about choosing images, classes or models anew."""
    return _busy(state)


def why_not_pretrain(state: LoopState) -> str | None:
    """Ask about starting to pretrain."""
    if state.images is None:
        return "Choose images in step 1 first."
    return _busy(state)


def is_paused(state: LoopState, job: JobName) -> bool:
    """Whether one job is held still."""
    return state.job == job and state.phase is Phase.PAUSED


def why_not_resume(state: LoopState, job: JobName) -> str | None:
    """Ask about going on with the paused job or the last run."""
    if is_paused(state, job):
        return None
    if state.idle and job not in state.last_runs:
        return "The project holds no run that could go on."
    return why_not_pretrain(state) if job == "pretrain" else why_not_train(state, from_scratch=True)


def why_not_pause(state: LoopState, job: JobName) -> str | None:
    """Ask about pausing a job that trains."""
    if state.job == job and state.phase is Phase.RUNNING:
        return None
    if state.job == job and state.phase is Phase.FINISHING:
        return "It is ending; stop it once more to leave out what it does now."
    return "Nothing is training here now." if state.phase is not Phase.STARTING else "The job is still starting."


def why_not_stop(state: LoopState, *jobs: JobName) -> str | None:
    """Ask about stopping one of the named jobs."""
    if state.job not in jobs or state.idle:
        return "Nothing is running here."
    return "It is being stopped; the checkpoint is written first." if state.phase is Phase.STOPPING else None


def why_not_paint(state: LoopState) -> str | None:
    """Ask about painting on the current image."""
    if state.image is None and state.images is None:
        return "Choose images in step 1 first, and click one in its list."
    return None if state.image is not None else "Open an image first: click one in the list of step 1."


def why_not_train(state: LoopState, from_scratch: bool = False) -> str | None:
    """Ask about training on the paint."""
    if state.pretrained is None and not from_scratch:
        return "Pretrain in step 2 or load a model file first, or choose “from scratch”."
    if not from_scratch and (mismatch := channels_mismatch(state.pretrained, state.channels)):
        return mismatch
    painted = [info for info in state.classes if state.painted.get(info.id, 0)]
    if len(painted) < 2:
        return "Paint some pixels of at least two classes first."
    return _busy(state)


def why_not_compare(state: LoopState) -> str | None:
    """Ask about training with and without what pretraining taught."""
    if state.pretrained is None:
        return "Pretrain in step 2 or load a model file first: there is nothing to compare with."
    return why_not_train(state)


def why_not_live(state: LoopState, from_scratch: bool = False) -> str | None:
    """Ask about switching live mode on; it waits for paint by itself."""
    start = state.live_start(from_scratch)
    if start is None and not from_scratch:
        return "Pretrain in step 2 or load a model file first, or choose “from scratch”."
    return why_not_paint(state) or channels_mismatch(start, state.channels) or _busy(state)


def why_not_segment(state: LoopState) -> str | None:
    """Ask about segmenting images."""
    if state.segmenter is None:
        return "Train on your paint, or load a segmentation network first."
    return why_not_paint(state) or channels_mismatch(state.segmenter, state.channels) or _busy(state)


def why_not_apply(state: LoopState) -> str | None:
    """Ask about segmenting all images of step 1 into files."""
    if state.segmenter is None:
        return "Train on your paint, or load a segmentation network first."
    if state.images is None:
        return "Read a folder of images, or take the open layers, in step 1 first."
    return channels_mismatch(state.segmenter, state.images.channels) or _busy(state)


def why_not_export(state: LoopState, missing: str | None) -> str | None:
    """Ask about making a package; ``missing`` says what is to be installed first, if anything."""
    if state.segmenter is None:
        return "There is no segmentation network yet: train on your paint, or load one."
    return missing or _busy(state)


def why_not_suggest(state: LoopState, is_known: bool) -> str | None:
    """Ask about looking for places to paint; ``is_known`` says whether the uncertainty of any image is."""
    if state.model is None:
        return "Train on your paint, or load a segmentation network first."
    if not is_known:
        return "Segment an image first, or switch Live on: places are looked for where the prediction is unsure."
    return _busy(state)


def why_not_accept(state: LoopState, is_predicted: bool) -> str | None:
    """Ask about turning predicted regions into paint; ``is_predicted`` says whether a prediction is seen."""
    if not is_predicted:
        return why_not_paint(state) or "There is no visible prediction of this image: segment it first."
    return None


def why_not_look(state: LoopState, view: str, needs_stage: bool) -> str | None:
    """Ask about showing tokens, a merge map or features of ``view``, one of :data:`VIEWS`."""
    if state.model is None:
        return "Pretrain in step 2 or load a model file first."
    if needs_stage and view == DECODER:
        return "The decoder has no tokens of its own: choose one of the four stages."
    return why_not_paint(state) or channels_mismatch(state.model, state.channels) or _busy(state)


def choose_channels(found: ImageCollection, chosen: Sequence[int]) -> ImageCollection:
    """Return the collection with only some of the channels that were found in its files, counted from 0."""
    if len(chosen) == found.channels:
        return found

    def keep(record: ImageRecord) -> ImageRecord:
        before = record.chosen_channels or tuple(range(found.channels))
        return replace(record, channels=len(chosen), chosen_channels=tuple(before[channel] for channel in chosen))

    records = tuple(keep(record) for record in found.records)
    return replace(found, records=records)


def add_class(classes: tuple[ClassInfo, ...], others: Collection[ClassInfo] = ()) -> tuple[ClassInfo, ...]:
    """Return the table with one more class: the smallest free id from 1, a free colour, and a free name to be changed.

    Parameters
    ----------
    classes
        The table.
    others
        Classes that are not, or no longer, in it, and whose ids, colours and names are not free either.

    Raises
    ------
    LabelError
        If all ids up to :data:`MOST_CLASS_ID` are in use.
    """
    used = {info.id: info for info in (*others, *classes)}
    new_id = next((number for number in range(1, MOST_CLASS_ID + 1) if number not in used), None)
    if new_id is None:
        raise LabelError(f"there are {MOST_CLASS_ID} classes, more cannot be painted; merge or remove some")
    names = {info.name for info in used.values()}
    name = next(name for name in (f"class {number}" for number in itertools.count(new_id)) if name not in names)
    return (*classes, ClassInfo(id=new_id, name=name, color=next_color([info.color for info in used.values()])))


def with_lost(classes: tuple[ClassInfo, ...], ids: Collection[int]) -> tuple[ClassInfo, ...]:
    """Return the table with classes for ids that labels hold but it does not name."""
    for lost in sorted(ids):
        classes = (*classes, ClassInfo(id=lost, name=f"label {lost}", color=next_color([info.color for info in classes])))
    return classes


def with_painted(
    classes: tuple[ClassInfo, ...], before: tuple[ClassInfo, ...], painted: Mapping[int, int]
) -> tuple[ClassInfo, ...]:
    """Return another class table with those of the one before that it lacks and that something is painted in."""
    for kept in before:
        if kept.id in {info.id for info in classes} or not painted.get(kept.id):
            continue
        if kept.name in {info.name for info in classes}:
            kept = kept.replace(name=f"{kept.name} (label {kept.id})")
        colors = [info.color for info in classes]
        classes = (*classes, kept.replace(color=next_color(colors)) if kept.color in colors else kept)
    return classes


def renamed_paint(before: Sequence[ClassInfo], after: Sequence[ClassInfo], painted: Mapping[int, int]) -> str:
    """Return a sentence, after a space, for each painted class that another table calls otherwise; empty if there is none."""
    names = {info.id: info.name for info in after}
    renamed = [info for info in before if painted.get(info.id) and names.get(info.id, info.name) != info.name]
    return "".join(f" What was painted as “{info.name}” is “{names[info.id]}” now." for info in renamed)


def edit_class(classes: tuple[ClassInfo, ...], row: int, name: str, color: str) -> tuple[ClassInfo, ...]:
    """Return the table with one row renamed or recoloured.

    Raises
    ------
    LabelError
        If the name is empty or taken.
    """
    name = name.strip()
    if not name:
        raise LabelError("a class needs a name; type one")
    if any(info.name == name for place, info in enumerate(classes) if place != row):
        raise LabelError(f"there is already a class called {name!r}; choose another name")
    changed = classes[row].replace(name=name, color=color)
    return (*classes[:row], changed, *classes[row + 1 :])


def describe_pixel_size(size: PixelSize | None) -> str:
    """Return a pixel size for people, for example ``"4.6 nm"`` or ``"1.5 × 1.25 µm"``."""
    return "unknown" if size is None else size.in_words()


def pixel_size_mismatch(image: PixelSize | None, model: PixelSize | None) -> str | None:
    """Return a sentence if both sizes are known and an image would be rescaled, else None."""
    if image is None or model is None:
        return None
    if not is_other_scale(scale_factors(image, model)):
        return None
    return f"Image pixels are {describe_pixel_size(image)}, the model was trained on {describe_pixel_size(model)}."
