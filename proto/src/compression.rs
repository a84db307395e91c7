//! Body compression.
