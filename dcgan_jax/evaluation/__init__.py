"""How good generated images are: features of images, and scores of features."""
