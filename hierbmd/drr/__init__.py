"""The projector: one interface, a fast CPU backend and a slow float64 reference."""
