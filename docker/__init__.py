"""Container images: Dockerfiles, files that Compose mounts, and a script that builds the images and tries them."""
