"""How a release is made: its version, the licences it rests on, its bill of materials, its oldest dependencies."""
