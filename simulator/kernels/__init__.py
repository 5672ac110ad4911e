"""Kernel models, one file per family: how ops of some kinds run on any chip."""
