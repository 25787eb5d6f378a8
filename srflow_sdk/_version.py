"""The version of srflow-sdk: pyproject.toml and CMakeLists.txt read it from the line below."""

__version__ = "0.1.0"
