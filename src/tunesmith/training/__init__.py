"""The training loop: a narrow subclass of the transformers Trainer and the parts it owns."""
