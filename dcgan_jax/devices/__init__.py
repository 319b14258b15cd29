"""Processes, devices, and programs compiled for them."""
