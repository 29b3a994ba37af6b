"""Revisions: their Deployment, their two Services, where requests go, and what becomes of them."""
