"""Tests of the review material against real git."""
