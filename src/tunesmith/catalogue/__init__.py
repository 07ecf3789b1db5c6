"""Good starting points, and how well their tokenizers fit a person's texts."""
