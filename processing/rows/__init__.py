"""What the rows of every data set share: their columns, the pictures they name, and the report of loading them."""

from .row_features import label_names, ner_features, re_features, with_objects


__all__ = ["label_names", "ner_features", "re_features", "with_objects"]
