"""The command line: parsing, shared flags, processes, output and exit statuses."""
