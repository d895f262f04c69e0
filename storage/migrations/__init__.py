"""Alembic migrations: forward only, expanding first and contracting a version later."""
