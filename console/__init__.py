"""The console: pages and an API over the tables, for everybody who works with the classifier."""
