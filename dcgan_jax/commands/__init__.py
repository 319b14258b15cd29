"""Verbs: what `main.py --mode` can do. Here alone a config is seen."""
