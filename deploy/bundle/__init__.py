"""A tag to its bundle, through git plumbing: exact blobs, the manifest, the host program. Contacts no host."""
