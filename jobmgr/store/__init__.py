"""The only SQL of the project: the schema and every statement on it."""
