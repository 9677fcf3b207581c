"""Residual sums and LayerNorm in one pass over memory."""
