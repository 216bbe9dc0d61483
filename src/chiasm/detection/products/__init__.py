"""One model of several products: their data, their training, and how each part finds its own."""
