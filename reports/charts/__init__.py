"""Charts: one function per chart, each from frames of `reports.tables`, none of more than 5,000 rows."""
