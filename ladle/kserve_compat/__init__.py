"""Models that were written for KServe, unchanged, on this server: `kserve.Model` as a `ladle.Model`.

The kserve package itself has to be installed: users' code subclasses its classes and uses its types. Nothing else here
imports it before a user's code does.
"""
