"""Whether a network takes images of so many channels; a network sees as many as it was trained on, no more and no fewer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..words import count

if TYPE_CHECKING:
    from .state import ModelOnDisk


def channels_mismatch(model: ModelOnDisk | None, channels: int | None) -> str | None:
    """Return a sentence if a network was trained on another number of channels than images have, else None."""
    if model is None or channels is None or model.channels == channels:
        return None
    some = "one channel" if model.channels == 1 else count(model.channels, "channel")
    way_out = f"choose {some} under Channels in step 1, or pretrain anew" if channels > model.channels else "pretrain anew"
    return f"This network was trained on {count(model.channels, 'channel')}, these images have {channels}: {way_out}."


def fitting(channels: int | None, *models: ModelOnDisk | None) -> ModelOnDisk | None:
    """Return the first network that takes images of so many channels, or else the first there is."""
    known = [model for model in models if model is not None]
    return next((model for model in known if channels_mismatch(model, channels) is None), known[0] if known else None)
