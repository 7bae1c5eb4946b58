"""The runner of `make bench`: starts a real S3 server, then calls the measurements in `isotach.bench`."""
