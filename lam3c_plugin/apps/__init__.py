"""What one does with features of a cloud: see them, compare them, put heads on them, probe them, export the network.

Pure functions over arrays; ``lam3c_plugin.commands`` gives them a command line.
"""
