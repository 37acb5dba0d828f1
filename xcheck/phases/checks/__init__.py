"""Records of both sides -> checks, one function per question. NumPy only; no framework is used."""
