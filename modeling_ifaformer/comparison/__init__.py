"""Comparison of systems in one table: each row is trained, scored in the same way, and told with what it saw."""
