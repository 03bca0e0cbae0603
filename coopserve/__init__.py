"""The front door: the command line, and the supervisor that runs all parts on one machine."""
