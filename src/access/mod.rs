//! ENGINE: API keys and local accounts; who is calling.
