"""Demo data: tweets whose words and pictures are drawn by a program."""
