"""The command line: thin, and lazy about what it imports, so that `ladle --help` is quick and needs no extras."""
