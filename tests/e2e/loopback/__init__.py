"""Tests of the scripted model service, with the real Codex as its client."""
