"""One energy for images from noise."""
