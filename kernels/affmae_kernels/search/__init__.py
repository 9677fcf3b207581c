"""Exact search for the k nearest sites."""
