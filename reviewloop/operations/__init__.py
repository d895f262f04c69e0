"""What operators need: doctor, metrics and health, alerts, logs, and a supervisor of workers."""
