"""Shapes of what ATen calls return, inferred from their inputs where a trace does not record them; no torch here."""
