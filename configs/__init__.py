"""Training configurations, one YAML a stage."""
