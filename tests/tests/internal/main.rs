//! Internal listeners: what crosses a hop, what a refusal inside becomes outside, loops, chains of layers, what is left behind.

mod build;
mod chains;
mod config;
mod examples;
mod idle;
mod left_behind;
mod passing;
mod refusals;
mod steady;
mod tls;
