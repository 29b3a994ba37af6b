"""The server's own description, as OpenAPI and as a page: `--enable_docs_url true`, off by default as in KServe."""
