"""What is measured on a model; one bench for each kind of model."""
