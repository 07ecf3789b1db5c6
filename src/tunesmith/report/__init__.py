"""A run told to people: the page `report.html` and the model card. Nothing is trained or predicted here."""
