"""CCoopNets with class labels as conditions."""
