"""2D-3D registration of each bone to a radiograph, with its outcome."""
