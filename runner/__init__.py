"""A declarative, YAML-driven workflow runner whose heart is selective execution."""

__version__ = "0.1.0"
