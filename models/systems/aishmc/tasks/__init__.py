"""What a decoder can do whose latents are solved for."""
