"""Sockets and the one loop that drives the SIP core over them."""
