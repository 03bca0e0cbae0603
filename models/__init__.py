"""The science: loops, kernels, energies and the cooperative systems. Knows nothing of HTTP, Redis or Celery."""
