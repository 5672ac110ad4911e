"""Small trained models that ship with Roofscape: their task, their losses, their weights and how they came about."""
