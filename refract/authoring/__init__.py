"""The source format: parse it, weave notebooks from it, keep them in step."""
