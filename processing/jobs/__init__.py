"""What long-running commands share: files that are whole or not there, claimed folders, several processes."""
