"""Sharing on the Hub: folders of models, data sets and Spaces, and their upload."""
