"""Options of the commands: how they are read, and those that several commands share."""
