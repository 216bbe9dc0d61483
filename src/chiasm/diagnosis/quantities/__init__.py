"""What an engineer acts on: charges by the names of IEC 60270, severity, sources in a recording.

Nothing here needs PyTorch: a station computes the same.
"""
