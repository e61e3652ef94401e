"""Training and evaluation of the demo networks on drawn scenes."""
