"""Layers and networks that systems share."""
