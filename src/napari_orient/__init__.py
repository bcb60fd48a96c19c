"""How every macromolecule in a cryo-electron tomogram is turned."""

__version__ = "0.1.0"
