"""Requests and answers as they travel: msgspec structs shared by the API and its client."""
