"""One furnished flat filmed, with its truth."""
