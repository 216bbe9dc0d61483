"""Parts of classifiers."""
