"""CF-EBM: one energy, learned from coarse to fine, and sampled by short runs (Zhao, Xie, Li, ICLR 2021)."""
