"""Connections to Kafka: consumers, producers, topics, security settings."""
