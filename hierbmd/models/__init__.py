"""Networks and losses in pure torch."""
