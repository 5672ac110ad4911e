"""Importers of foreign traces: each file that defines `import_<its own name>(path, ...)` is one; no torch here."""
