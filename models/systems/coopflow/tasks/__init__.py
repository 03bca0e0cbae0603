"""What a CoopFlow can do."""
