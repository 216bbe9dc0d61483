"""Pure functions of arrays that say how good scores are."""
