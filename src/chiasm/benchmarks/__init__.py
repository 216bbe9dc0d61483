"""Each table and figure of the papers as one function, and the harness that fills them."""
