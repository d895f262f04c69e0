"""The worker: from Kafka records over batches and the classifier to one transaction."""
