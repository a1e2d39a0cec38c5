"""`ovl-linkd-runc`: shortens what a bundle mounts, then becomes the real OCI runtime."""
