"""Trained generators as folders for the Hugging Face Hub: written with a model card, and read again."""
