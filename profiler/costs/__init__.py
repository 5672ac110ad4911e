"""Cost rules: from an ATen call (names, shapes, dtypes) to an `Op`. No torch here, so importers use them too."""
