"""One sampler a file: a start and a pure step."""
