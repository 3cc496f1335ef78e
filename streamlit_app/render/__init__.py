"""From plain data to widgets: thin, one module per kind of block."""
