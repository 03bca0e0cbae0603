"""What a CCoopNets with image conditions can do."""
