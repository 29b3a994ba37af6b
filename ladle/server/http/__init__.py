"""HTTP/1.1 on asyncio and httptools: what arrives becomes a Request, what answers it is a Response.

Knows nothing of models. An Application decides; see `application`.
"""
