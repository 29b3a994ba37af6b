"""The V1 and V2 protocols over HTTP: paths, bodies, codes. What they mean is the data plane's."""
