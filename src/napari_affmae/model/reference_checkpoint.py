"""Reading the checkpoints that the paper's authors released: their names, our modules.

Only the names of the tensors are used; they are facts of the files.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelFileError
from ..model_config import FourSizes, ModelConfig
from .decoder import POINTS
from .joined_layers import join_layers
from .mae import MaskedAutoencoder
from .segmenter import Segmenter

RENAMES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^masked_token$", "decoder.query_token"),
        (r"^encoder\.patch_embed\.projs\.", "patch_embedding.convolutions."),
        (r"^encoder\.patch_embed\.lns\.(\d+)\.ln\.", r"patch_embedding.norms.\1."),
        (r"^encoder\.patch_embed\.norm\.", "patch_embedding.norm."),
        (r"^encoder\.layers\.", "encoder.stages."),
        (r"\.attn\.pos_embed\.", ".attention.position_bias."),
        (r"\.attn\.blank_k$", ".attention.blank_key"),
        (r"\.attn\.blank_v$", ".attention.blank_value"),
        (r"\.attn\.", ".attention."),
        (r"\.mlp\.(fc\d)\.", r".\1."),
        (r"\.downsample\.weight_net\.0\.", ".merge.weight."),
        (r"\.downsample\.weight_net\.1\.", ".merge.weight_norm."),
        (r"\.downsample\.token_selection_embedding$", ".merge.selected"),
        (r"\.downsample_norm\.", ".merge.norm."),
        (r"\.downsample_proj\.", ".merge.linear."),
        (r"\.downsample\.", ".merge."),
        (r"\.prob_net\.", ".merge.score."),
        (r"^cross_attention_decoder\.input_proj\.", "decoder.projections."),
        (r"^cross_attention_decoder\.decoder_blocks\.(\d+)\.0\.", r"decoder.blocks.\1."),
        (r"\.self_attn\.", ".self_attention."),
        (r"\.cross_attn\.", ".cross_attention."),
        (r"\.shepard_power$", ".power"),
        (r"\.attention_weights\.", ".mixing."),
        (r"\.value_proj\.", ".value."),
        (r"\.output_proj\.", ".output."),
        (r"^decoder_pred_norm\.", "heads.res2.norm."),
        (r"^decoder_pred_head\.", "heads.res2.linear."),
        (r"^aux_head_(res\d)(?:\.0|_norm)\.", r"heads.\1.norm."),
        (r"^aux_head_(res\d)(?:\.1|_head)\.", r"heads.\1.linear."),
    )
)

UNUSED = re.compile(r"\.downsample\.global_(norm|linear)\.")
"""Tensors that the checkpoints hold and no computation reads."""


def load_reference_checkpoint(
    source: str | Path | Mapping[str, Any], config: ModelConfig | None = None, num_classes: int | None = None
) -> MaskedAutoencoder | Segmenter:
    """Load a checkpoint of the paper's released code.

    Parameters
    ----------
    source
        A ``.pth`` file (read with ``weights_only=True``) or what it holds: the state dict itself, or a dict with it under
        ``model_state_dict`` or ``model``.
    config
        The configuration, or None to infer it from the shapes. What no shape shows then takes the paper's values: a
        neighbourhood of 64 in clusters of 8, and 0.4 of the tokens kept (the base model was trained with 0.5: pass it for
        that one). The position code is set to ``"batch"``, the one these weights were trained with.
    num_classes
        Number of classes, which makes it a segmenter. None infers from the names of the heads which model it is.

    Returns
    -------
    MaskedAutoencoder or Segmenter

    Raises
    ------
    ModelFileError
        If the file cannot be read, or its tensors do not fit.
    """
    state = _unwrap(source if isinstance(source, Mapping) else _read(Path(source)))
    is_segmenter = num_classes is not None or any(name.startswith("aux_head_res5_head") for name in state)
    renamed = {_rename(name): value for name, value in state.items() if not UNUSED.search(name)}
    if config is None:
        config = _infer(renamed, state)
    config = config.replace(position_code="batch", decoder_ffn_dim=_size(renamed, "decoder.blocks.0.linear1.weight"))

    model: MaskedAutoencoder | Segmenter
    if is_segmenter:
        patch = config.patch_size**2
        classes = num_classes or _size(renamed, "heads.res2.linear.weight") // patch
        model = Segmenter(config, classes)
    else:
        model = MaskedAutoencoder(config)
    try:
        model.load_state_dict(join_layers(renamed))
    except RuntimeError as error:
        raise ModelFileError(
            f"the checkpoint's tensors do not fit this configuration; pass the config it was trained with. {error}"
        ) from error
    return model


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ModelFileError(f"no checkpoint at {path}: give the path of a .pth file")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, LookupError) as error:
        # torch's own words advise to load whatever is in the file, code included.
        raise ModelFileError(
            f"{path} cannot be read as a PyTorch checkpoint of plain tensors: choose a .pth file of the paper's released models"
        ) from error
    if not isinstance(loaded, Mapping):
        raise ModelFileError(f"{path} holds a {type(loaded).__name__}, expected a dict of tensors")
    return loaded


def _unwrap(loaded: Mapping[str, Any]) -> dict[str, Tensor]:
    for key in ("model_state_dict", "model"):
        if isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    prefixes = re.compile(r"^(?:module\.|_orig_mod\.)+")
    state = {prefixes.sub("", name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    if not any(name.startswith("encoder.layers.") for name in state):
        shown = ", ".join(list(state)[:3]) or "no tensors"
        raise ModelFileError(f"not a checkpoint of the paper's model: expected names such as encoder.layers.0…, found {shown}")
    return state


def _rename(name: str) -> str:
    for pattern, replacement in RENAMES:
        name = pattern.sub(replacement, name)
    return name


def _size(state: Mapping[str, Tensor], name: str, axis: int = 0) -> int:
    if name not in state or state[name].dim() <= axis:
        raise ModelFileError(f"the checkpoint has no tensor for {name}; it is incomplete or of another model")
    return state[name].shape[axis]


def _infer(renamed: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> ModelConfig:
    """Read sizes off the shapes."""

    def per_stage(read: Callable[[int], int]) -> FourSizes:
        return read(0), read(1), read(2), read(3)

    def depth(level: int) -> int:
        blocks = f"encoder.stages.{level}.blocks."
        return 1 + max((int(name.split(".")[4]) for name in renamed if name.startswith(blocks)), default=-1)

    dims = per_stage(lambda level: _size(renamed, f"encoder.norms.{level}.weight"))
    heads = per_stage(lambda level: _size(renamed, f"encoder.stages.{level}.blocks.0.attention.position_bias.weight"))
    patch = 2 ** sum(name.startswith("encoder.patch_embed.projs.") and name.endswith("weight") for name in state)
    decoder_dim = _size(renamed, "decoder.projections.0.0.weight")
    return ModelConfig(
        patch_size=patch,
        in_channels=_size(renamed, "patch_embedding.convolutions.0.weight", axis=1),
        embed_dims=dims,
        depths=per_stage(depth),
        num_heads=heads,
        mlp_ratio=_size(renamed, "encoder.stages.0.blocks.0.fc1.weight") / dims[0],
        merging="l2norm" if "encoder.stages.0.merge.selected" in renamed else "cluster",
        decoder_dim=decoder_dim,
        decoder_heads=_size(renamed, "decoder.blocks.0.self_attention.mixing.weight") // POINTS,
        decoder_ffn_dim=_size(renamed, "decoder.blocks.0.linear1.weight"),
    )
