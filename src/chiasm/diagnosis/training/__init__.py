"""Training of classifiers: datasets, both stages and the search."""
