"""Images from images: translation, colouring and completion."""
