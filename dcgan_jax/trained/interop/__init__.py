"""Weights that others trained, and other frameworks' files."""
