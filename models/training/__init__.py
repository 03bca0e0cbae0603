"""The loop of all trainings."""
