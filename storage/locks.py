"""What changes of the schema wait for."""

UPGRADE_LOCK = 0x5265766965774C6F
"""Any number of processes may change the schema at once: one works, the others wait for it."""

LOCK_SECONDS = 5
"""How long a migration waits for a table that others use, before it lets them go first and tries again."""
