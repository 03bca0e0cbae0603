"""What files say of themselves, one format a module."""
