"""Agreement, precision and screening figures with their intervals."""
