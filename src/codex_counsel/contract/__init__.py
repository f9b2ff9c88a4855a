"""What a caller may ask and what it gets: requests, envelopes, settings, the published tools."""
