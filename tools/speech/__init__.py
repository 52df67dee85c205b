"""Training speech for the audio encoder: read aloud by machines, so that every phone is known to the millisecond."""
