"""The suite runs on the embedded engine; tests/pointcept starts its own processes for the real host."""

import os

os.environ["LAM3C_ENGINE"] = "embedded"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is first imported; see scripts/setup_env.sh
