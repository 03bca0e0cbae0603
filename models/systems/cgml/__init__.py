"""cGML: conditional generation by learning where the latent should go (Ramasinghe et al., ICLR 2021)."""
