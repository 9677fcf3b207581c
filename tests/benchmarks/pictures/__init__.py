"""Figures of the documentation: each module draws one, from what it is given, and returns it."""
