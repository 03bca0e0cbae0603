"""Records sent to the addresses that clients name."""
