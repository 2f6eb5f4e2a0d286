"""Virtual patients and radiographs with known truth."""
