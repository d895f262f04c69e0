"""Telling people and programs: the log, a webhook, a Kafka topic."""
