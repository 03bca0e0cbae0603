"""What a model of surfaces can do."""
