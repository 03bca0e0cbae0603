"""What a user's own data are, told by names alone: the rules that the API and the readers of the models share."""
