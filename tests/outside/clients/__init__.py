"""Outside clients behind one face: `Client` is what the scenarios use, one subclass for each library or program."""
