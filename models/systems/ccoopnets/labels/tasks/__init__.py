"""What a CCoopNets with labels can do."""
