"""Sans-IO SIP: messages, digest, the non-INVITE client transaction, NOTIFY. No sockets, clock, randomness or logging."""
