"""Walks through the latent space: what is asked for, which images it is about, and how it is drawn."""
