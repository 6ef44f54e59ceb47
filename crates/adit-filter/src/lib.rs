//! Filter traits, stream state and the chain runner
