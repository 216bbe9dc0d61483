"""What cameras and 3D sensors write of a part: formats, pixels, and which files are of one."""
