"""Grids, plots and moving pictures: arrays in, files out."""
