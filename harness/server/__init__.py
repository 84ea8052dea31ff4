"""The embedded server: the Open Inference Protocol in front of model processes, with dynamic batching.

``python -m harness.server FILE`` serves what the file says; ``harness/serving/embedded.py`` writes it and starts this.
"""
