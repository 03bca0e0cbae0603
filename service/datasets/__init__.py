"""Data sets that clients upload and train on: unpacked with care, kept for their owners, listed with what they hold."""
