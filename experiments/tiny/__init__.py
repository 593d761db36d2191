"""``lam3c-tiny``: a small encoder pre-trained by the LAM3C recipe on made rooms; ``run.py`` does all of it."""
