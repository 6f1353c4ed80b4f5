"""How a system speaks: signature, envelope, handlers; and the sources that speak so."""
