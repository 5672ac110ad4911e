"""Kernel models held against measured silicon: tables, fits, errors and the bands that every prediction carries."""
