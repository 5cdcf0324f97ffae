"""What `medssl check` says of paths, and of the records of a raw folder, as lines and as a page."""
