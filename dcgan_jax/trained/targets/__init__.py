"""Train steps compiled for machines that are not at hand: their memory and their instructions there."""
