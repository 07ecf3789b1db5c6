"""Pretrained models: loading them safely, their heads and pooling, and the order of their layers."""
