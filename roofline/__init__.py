"""The least it can cost: chips and the rooflines that they put over a trace."""
