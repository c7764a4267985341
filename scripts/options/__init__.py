"""Options of the commands and of spaCy's component: how they are read, and those that several commands share."""
