"""Scores of a model's answers, which are entities or relations, and the tables that show them."""
