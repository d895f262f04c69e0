"""Reviews and labels in files, read and written."""
