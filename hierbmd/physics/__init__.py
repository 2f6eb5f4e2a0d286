"""Spectra, attenuation, scatter, noise and detector response."""
