"""From videos and clouds to the scene folders that pre-training reads; imports nothing of ``lam3c_plugin``."""
