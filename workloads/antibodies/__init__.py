"""Antibody chains filled in by a masked language model of others: real weights of a real masked diffusion."""
