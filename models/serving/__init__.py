"""What makes a frozen network fast. Nothing outside needs to know how."""

from models.serving.served import Served, fast_networks, served

__all__ = ["Served", "fast_networks", "served"]
