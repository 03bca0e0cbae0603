"""What makes a frozen network fast. Nothing outside needs to know how."""
