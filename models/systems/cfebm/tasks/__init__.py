"""What a CF-EBM can do."""
