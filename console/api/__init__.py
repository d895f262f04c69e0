"""``/api/v1``: the same things for programs."""
