"""Jobs as generators of events: pretraining, finetuning, segmentation, a look inside, evaluation. No Qt, no napari."""

from ._whole_imports import load_torch_library, without_collections

load_torch_library()
with without_collections():
    import affmae_kernels  # noqa: F401  loads triton safely before torch's optimizers can load it
    import lightning_fabric  # noqa: F401  and with it the rest of torch, which the first optimizer would load otherwise
