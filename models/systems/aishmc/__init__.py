"""AIS-HMC co-generation: a part of an image is given, a GAN draws the rest (Fang and Schwing, NeurIPS 2019)."""
