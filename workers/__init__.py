"""Between the service and the science: takes jobs from the queue, drives models, writes results."""
