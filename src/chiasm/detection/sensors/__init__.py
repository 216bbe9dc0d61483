"""What 3D sensors and their programs write: clouds, tables of heights, and their grids."""
