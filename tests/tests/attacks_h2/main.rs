//! Bad input over HTTP/2, in raw frames, through the binary: clients and upstreams that attack. A flood costs the attacker
//! its connection, a malformed message its stream; neighbours on other connections of the one worker are served meanwhile.

mod lab;

mod messages;
mod resources;
mod tunnels;
mod upstream;
