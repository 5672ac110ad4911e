"""Samplers: ways of turning a network's logits into tokens, one file each, found by the file's stem."""
