"""An opened run: its built parts, its state to start from, and samples from its generator."""
