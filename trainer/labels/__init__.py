"""Quality of labels: agreement of annotators, and labels that look wrong."""
