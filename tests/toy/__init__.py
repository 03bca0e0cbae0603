"""A system that is not of the house: a Gaussian a pixel, whose mean is learned cooperatively.

It shows what a new system takes: this folder, and one line in the registry.
"""
