"""Train steps compiled for machines that are not at hand: what they take there, and what became of them."""
