"""What clients and workers agree on: jobs, trainings, records, cards, errors."""
