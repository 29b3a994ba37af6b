"""What is special about Kubernetes' own kinds: defaults, what the server fills in, validation, selectable fields. All pure."""
