"""Sound: decode, mel spectrogram, feature windows, voice activity. Pure buffers; no network runs here."""
