"""Export trained models to folders that run without torch, compared with the trained model."""
