"""Every statement that the product can send, each by the call that sends it, over a filled database.

Only ``storage`` has SQL. `benchmarks/sent_statements.py` finds the lines of it that none of these calls
reaches.
"""
