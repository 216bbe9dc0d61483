"""How a classifier's fusion is searched by evolution, and how finalists are trained."""
