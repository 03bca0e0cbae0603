"""CoopFlow: a Langevin flow and a normalising flow that teach each other (Xie, Zhu, Li, Li, ICLR 2022)."""
