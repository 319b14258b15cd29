"""Processes, the placement of arrays on devices, and the programs that run there."""
