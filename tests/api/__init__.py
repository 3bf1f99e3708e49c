"""Tests of the API over real connections to a real service."""
