"""One job: claimed, run, committed."""
