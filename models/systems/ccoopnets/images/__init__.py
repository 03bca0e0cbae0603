"""CCoopNets with images as conditions."""
