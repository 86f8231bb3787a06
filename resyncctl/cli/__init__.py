"""The command line: options in, words and exit statuses out. No business rules."""
