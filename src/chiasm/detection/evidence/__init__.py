"""Evidence of what is not normal, beside the distances of a memory of normals."""
