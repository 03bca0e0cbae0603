"""What trained CCoopNets can do, one task a file: generators that read like the paper's algorithms."""
