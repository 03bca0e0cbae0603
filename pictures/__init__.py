"""Picture files in, plain pixels out: one decoder for requests and training data, without torch and without HTTP."""
