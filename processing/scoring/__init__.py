"""Scores of a model's answers, of entities and of relations, and the tables that show them."""
