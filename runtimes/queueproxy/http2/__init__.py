"""HTTP/2 without TLS on both sides of the sidecar, on the library h2: what gRPC servers behind it need."""
