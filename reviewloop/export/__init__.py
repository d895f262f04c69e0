"""Exports of what is stored: Parquet files and Iceberg tables, each row once whatever is killed."""
