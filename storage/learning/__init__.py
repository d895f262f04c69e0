"""Tables of the learning loop: leases, training runs, candidates for labelling, audit labels."""
