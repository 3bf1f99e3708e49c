"""The HTTP face: REST, Socket.IO, server-sent events."""
