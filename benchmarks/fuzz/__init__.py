"""Messages that are broken in every way we can think of, through a real worker, each accounted for."""
