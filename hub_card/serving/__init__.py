"""A server of the pipelines, what one of Hugging Face is given, and the limits of a request. No file imports torch."""
