"""From one patient's CT and radiographs to training pairs: measured, registered, projected, written."""
