"""What a running worker tells its supervisors: metrics for Prometheus, and whether it is alive and ready."""
