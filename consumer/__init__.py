"""Kafka records to batches to the classifier to one transaction."""
