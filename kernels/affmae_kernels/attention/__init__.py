"""Attention of off-grid tokens to whole clusters of neighbours."""
