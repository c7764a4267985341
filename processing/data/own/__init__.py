"""Files of a user's own: they are found, read, checked and made rows."""
