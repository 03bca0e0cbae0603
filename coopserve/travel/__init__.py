"""Models that travel: written as a folder in the layout of the Hugging Face Hub, and read from one with suspicion."""
