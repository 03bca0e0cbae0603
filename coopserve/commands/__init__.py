"""One file a command that is more than a start of a process."""
