"""Built-in rendered parts: RGB and 3D, with defects, written as MVTec 3D-AD files."""
