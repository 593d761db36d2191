"""People's own clouds into scene folders."""
