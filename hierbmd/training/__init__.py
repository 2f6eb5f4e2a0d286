"""Data modules, checkpoints and export for the stages."""
