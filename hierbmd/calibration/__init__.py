"""From Hounsfield units to bone mineral density."""
