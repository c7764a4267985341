"""What the rows of every data set share: their columns, the pictures they name, and the report of loading them."""

from .row_features import is_list_column, label_names, ner_features, re_features, with_objects


__all__ = ["is_list_column", "label_names", "ner_features", "re_features", "with_objects"]
