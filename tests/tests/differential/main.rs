//! adit beside Envoy: one configuration, the same bytes, everything that is seen compared.
#![cfg(feature = "e2e")]

mod case;
mod lab;
mod messages;
mod origin;
mod parallel;
mod side;
mod yaml;

mod admin;
mod clients;
mod deliberate;
mod filters;
mod heads;
mod routes;
mod upgrades;
mod wire;
