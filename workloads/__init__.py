"""What runs: models, samplers and the adapters that bring in other people's programs."""
