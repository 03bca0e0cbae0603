"""What everything here is made of: loops, keyed noise, rows."""
