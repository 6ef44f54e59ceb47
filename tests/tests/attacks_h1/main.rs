//! Bad input over HTTP/1.1, through the binary: a client that attacks, and an upstream that does. Each case says what is
//! answered, and that nothing forbidden reached the origin, that the connection was not used again, that a neighbour goes
//! on, and that nothing stays behind.

mod lab;

mod address;
mod connect;
mod drain;
mod dribble;
mod upgrade;
mod upstream;
