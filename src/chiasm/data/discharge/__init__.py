"""Recordings of partial discharge: readers, store, splits, and a simulator that writes them."""
