"""How good a prediction is: agreement, precision, screening and density images; the only home of metrics."""
