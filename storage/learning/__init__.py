"""What the learning loop reads and writes: leases, training runs, what may be labelled, audit answers."""
