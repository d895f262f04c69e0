"""Examines everything that a worker needs, and says how to mend what is missing."""
