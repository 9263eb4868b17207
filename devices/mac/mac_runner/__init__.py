"""Times Core ML models for nasvit-edge; `devices/mac/runner.py` runs it."""
