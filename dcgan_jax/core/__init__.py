"""The GAN itself: arrays in, arrays out."""
