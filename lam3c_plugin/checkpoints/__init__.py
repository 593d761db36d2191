"""Any file of weights read as data: keys mapped, architecture guessed, converted."""
