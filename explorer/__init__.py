"""Which chip to build: designs as columns, their area, power and cost, and the search among them."""
