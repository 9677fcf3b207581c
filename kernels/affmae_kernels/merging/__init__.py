"""Merging a neighbourhood into its surviving token."""
