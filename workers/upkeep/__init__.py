"""What keeps a worker honest: leases, sweeps, shutdown."""
