"""A standby without a second VM: it receives, keeps, inspects and gives back checkpoints of a real QEMU."""
