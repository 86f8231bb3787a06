"""Where SIP, rollouts, storage and time meet: planning, sending, control, and the composition root."""
