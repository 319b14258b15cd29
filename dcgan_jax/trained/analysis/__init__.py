"""Analyses of what a trained DCGAN has learned (paper, sections 5 and 6)."""
