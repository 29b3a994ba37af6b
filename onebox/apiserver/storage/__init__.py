"""Objects as bytes: what is durable (SQLite), what is current, and what happened since (the watch cache).

Knows revisions, keys, labels and selectable fields; nothing of HTTP, of kinds or of what the bytes mean.
"""
