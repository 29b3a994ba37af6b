"""HTTP/2 without TLS, as server and client, on the library h2: what proxies need in front of servers of gRPC.

The queue-proxy as a sidecar and onebox's activator use it.
"""
