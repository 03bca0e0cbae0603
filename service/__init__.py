"""The HTTP API and the contract between clients, API and workers. Never imports torch, so it starts at once."""
