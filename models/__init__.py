import common  # noqa: F401  Ctrl-C in the imports that follow
