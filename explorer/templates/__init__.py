"""Chip templates, one file each: parameters, what they build, and which combinations are dead."""
