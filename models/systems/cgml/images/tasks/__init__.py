"""What a model can do whose latents a predictor moves."""
