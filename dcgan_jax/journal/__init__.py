"""What a run writes: its folder, checkpoints, metrics, pictures and warnings; and what stops it."""
