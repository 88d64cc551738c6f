"""Engines: stateless tensor functions that the gateway calls, and the manifest that describes them.

Holds no session state and knows nothing of gRPC sessions, portraits or audio files.
"""
