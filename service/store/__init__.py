"""The state of the service in Redis."""
