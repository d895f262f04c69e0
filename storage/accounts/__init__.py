"""Accounts of the console: users, sessions, tokens, and the audit log."""
