"""What the server does for each verb. A handler takes (server, request, target) and answers; all are thin."""
