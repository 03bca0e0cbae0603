"""One file for each command that does more than start a process."""
