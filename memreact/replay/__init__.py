"""Decides everything that a recording holds once more, by its settings or by others."""
