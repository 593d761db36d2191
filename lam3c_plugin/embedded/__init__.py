"""The embedded engine: what LAM3C needs of Pointcept, under the same names, in pure PyTorch (CPU or GPU).

It imports nothing of ``models``, ``losses``, ``datasets`` or ``hooks`` of the plugin, and never ``lam3c_plugin.host``.
"""
