"""The network: patch embedding, adaptive encoder, decoder, heads, and its files."""

import affmae_kernels  # noqa: F401  loads triton safely before anything else can load it
