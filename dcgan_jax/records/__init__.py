"""What a run writes and reads back: its folder, checkpoints, metrics and pictures."""
