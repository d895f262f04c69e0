"""Labels of review versions, their consensus, and the annotation queue."""
