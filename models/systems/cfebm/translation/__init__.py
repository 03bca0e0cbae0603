"""Two energies for translation without pairs."""
