"""Subcommands of ``lam3c``: one small module each, with ``add_parser(subparsers)``.

A module imports at its top only what Python itself brings (and this package); the rest when it runs, so that
``lam3c --help`` and ``lam3c doctor`` work where a library is missing.
"""

#: modules of this package, in the order of ``lam3c --help``
COMMANDS: tuple[str, ...] = ("doctor", "install", "encode", "zoo", "pca", "similarity", "segment", "probe", "export")
