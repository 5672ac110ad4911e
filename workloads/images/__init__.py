"""Image diffusion: presets, networks from their configurations, and the loop that draws an image."""
