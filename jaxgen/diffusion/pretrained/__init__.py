"""The authors' trained networks: what they are, and their weights under this library's names."""
