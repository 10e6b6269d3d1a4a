"""A recording as a picture over time."""
