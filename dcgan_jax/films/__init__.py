"""Moving pictures: their pace, their files as GIF, WebP and MP4, and the film of a run's training."""
