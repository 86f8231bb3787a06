"""The pure domain of rollouts: words, states, planning, pacing, deferral, attempts. No I/O, no clock, no logging."""
