//! The upgrade, CONNECT and tunnel exchange as a pure state machine
