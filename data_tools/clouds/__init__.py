"""Point clouds: read, write, normals, up axis, search; NumPy and SciPy only."""
