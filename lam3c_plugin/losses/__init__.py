"""LAM3C's losses: a pure function each, with a plain reference beside it, and a registered module over it."""
