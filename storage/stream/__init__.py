"""What becomes of a Kafka stream: positions, rows and dead letters, moved together in one transaction."""
