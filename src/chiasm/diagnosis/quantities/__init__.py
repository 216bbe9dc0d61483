"""What an engineer acts on: charges after IEC 60270, severity, and the sources in a recording.

Nothing here needs PyTorch: a station computes the same.
"""
