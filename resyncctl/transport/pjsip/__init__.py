"""The second SIP engine: PJSIP, by its C interface, which the wheel of pjsua2 exports. `agent` is what the others use."""
