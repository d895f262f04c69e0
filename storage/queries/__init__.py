"""What people ask of stored reviews and dead letters: filters, pages, counts, a history, the overview."""
