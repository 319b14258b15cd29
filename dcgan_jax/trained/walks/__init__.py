"""Walks through the latent space: the request, the images that it names, and the drawing."""
