"""What a trained DCGAN has learned, as the paper looks at it (sections 5 and 6)."""
