"""What can be tested: sessions of a table, an address, a command, a real QEMU."""
