"""What cameras and 3D sensors of a station see of one part: which files, and whose pixels."""
