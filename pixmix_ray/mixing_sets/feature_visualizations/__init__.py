"""What channels of a network respond to most: the set (`fvis`), and the ascent that makes a picture."""
