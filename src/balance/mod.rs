//! ENGINE: which replica gets a call; circuit breaker; health.
