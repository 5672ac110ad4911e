"""Scenarios: jobs that several ways of generating do side by side, each a TOML file of this folder."""
