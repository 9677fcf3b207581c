"""What happens between the convolutions of the patch embedding: hiding, LayerNorm and GELU in one pass."""
