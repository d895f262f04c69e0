"""A real Apache Kafka and a real PostgreSQL from pip packages, as child processes on loopback."""
