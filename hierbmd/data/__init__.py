"""Frozen types of what flows between the parts; no files, no torch."""
