"""The suite runs on the embedded engine; tests/pointcept starts its own processes for the real host."""

import os

os.environ["LAM3C_ENGINE"] = "embedded"
