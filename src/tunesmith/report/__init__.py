"""A run told to people: the page `report.html` and the model card, made from what is in memory."""
