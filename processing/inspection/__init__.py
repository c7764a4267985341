"""Looking at a data set: counts, and pages and sheets of samples."""
