"""The folder of a run, the folder of a model, and the console."""
