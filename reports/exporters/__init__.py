"""Exporters: files that other programs read, one exporter a file, found by name."""
