"""The patch types that are not server-side apply: JSON patch, merge patch, strategic merge patch. All pure."""
