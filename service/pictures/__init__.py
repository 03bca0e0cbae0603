"""Pictures: files, decoding, uploads, blobs."""
