"""How coopserve is packed into images and put together: Dockerfiles, what Compose mounts, and a trial of both."""
