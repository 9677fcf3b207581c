"""Argument checks shared by the operators: messages name the argument, what was expected and what came."""

from __future__ import annotations

from torch import Tensor


def check_shape(name: str, tensor: Tensor, expected: tuple[int | None, ...], layout: str) -> None:
    """Raise ``ValueError`` unless ``tensor`` has the expected shape; None stands for any size.

    Parameters
    ----------
    layout
        How the documentation writes the shape, for the message, for example ``"[B, n, 2]"``.
    """
    fits = tensor.dim() == len(expected) and all(
        want is None or want == size for want, size in zip(expected, tensor.shape, strict=True)
    )
    if not fits:
        wanted = "[" + ", ".join("any" if want is None else str(want) for want in expected) + "]"
        raise ValueError(f"{name} must be {layout} = {wanted}, got {list(tensor.shape)}")


def check_same_device(**tensors: Tensor) -> None:
    """Raise ``ValueError`` unless all tensors live on one device."""
    devices = {name: str(tensor.device) for name, tensor in tensors.items()}
    if len(set(devices.values())) > 1:
        listed = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise ValueError(f"all tensors must be on one device, got {listed}")
