"""What a CF-EBM that generates can do."""
