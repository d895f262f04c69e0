"""How results look to people: one way to draw charts and one way to make HTML pages that need no network."""
