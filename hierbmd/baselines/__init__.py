"""The systems that a reader will ask about beside the hierarchy, each behind the same Predictor protocol."""
