"""How a detector's fusion is searched by evolution, and how finalists are trained."""
