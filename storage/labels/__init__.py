"""Labels: answers pinned to the version that they judged, what people agree on, and the annotation queue."""
