"""``lam3c-tiny``: a small encoder pre-trained by the LAM3C recipe on synthetic rooms; ``run.py`` does all of it."""
