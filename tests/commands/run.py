"""A command line run in this process."""

from lam3c_plugin import cli


def run(*argv):
    """``lam3c ARGV`` -> exit code; argparse's own exits too."""
    try:
        return cli.main([str(arg) for arg in argv])
    except SystemExit as end:
        return end.code
