"""What a table holds: which column is what, and what its cells mean."""
