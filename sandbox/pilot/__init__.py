"""The pilot city: synthetic tables and parties of a city that does not exist, shaped like the real ones."""
