//! A rustls session without buffers of its own, either side.

use std::ops::Deref;

use rustls::CommonState;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus, WriteTraffic};

/// Either side of a TLS session. It owns no buffer: ciphertext is given to it and taken from it.
pub(crate) enum Session {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// What to do once the session may send.
pub(crate) enum Action<'a> {
    /// Nothing: only look at what came in.
    None,
    /// Encrypt `plain` into `out`, each part in records of its own.
    Encrypt { plain: [&'a [u8]; 2], out: &'a mut [u8] },
    /// It was encrypted, into this many bytes.
    Encrypted(usize),
    /// Say that nothing more will be sent.
    Close,
}

/// What driving a session came to.
#[derive(Debug, Default)]
pub(crate) struct Driven {
    /// How many bytes of the input were used up.
    pub(crate) used: usize,
    /// The peer said that nothing more will come.
    pub(crate) peer_closed: bool,
    /// The session failed; an alert about it is in the output.
    pub(crate) error: Option<rustls::Error>,
}

/// What one call into rustls came to.
enum Step {
    Again,
    PeerClosed,
    Idle,
}

/// A session that keeps asking to be called again without using anything up is broken; rustls has no such state.
const MAX_IDLE_STEPS: u32 = 64;

impl Session {
    /// Works through `incoming`, all of the ciphertext there is: plaintext goes to `plain`, handshake messages, alerts and
    /// the like are appended to `out`.
    pub(crate) fn drive(
        &mut self,
        incoming: &mut [u8],
        plain: &mut dyn FnMut(&[u8]),
        out: &mut Vec<u8>,
        action: &mut Action<'_>,
    ) -> Driven {
        let mut driven = Driven::default();
        let mut idle = 0;
        loop {
            let rest = incoming.get_mut(driven.used..).unwrap_or_default();
            let (discard, step) = self.step(rest, plain, out, action);
            driven.used += discard;
            idle = if discard == 0 { idle + 1 } else { 0 };
            match step {
                Ok(Step::Again) if idle < MAX_IDLE_STEPS => {}
                Ok(Step::PeerClosed) => driven.peer_closed = true,
                Ok(_) => return driven,
                Err(error) => {
                    // What is left to say is an alert. Without one rustls would read on, and must not.
                    while self.wants_write() {
                        let rest = incoming.get_mut(driven.used..).unwrap_or_default();
                        let (discard, step) = self.step(rest, &mut |_| {}, out, &mut Action::None);
                        driven.used += discard;
                        if step.is_err() {
                            break;
                        }
                    }
                    driven.error = Some(error);
                    return driven;
                }
            }
        }
    }

    fn step(
        &mut self,
        incoming: &mut [u8],
        plain: &mut dyn FnMut(&[u8]),
        out: &mut Vec<u8>,
        action: &mut Action<'_>,
    ) -> (usize, Result<Step, rustls::Error>) {
        match self {
            Self::Client(client) => handle(client.process_tls_records(incoming), plain, out, action),
            Self::Server(server) => handle(server.process_tls_records(incoming), plain, out, action),
        }
    }
}

fn handle<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &mut dyn FnMut(&[u8]),
    out: &mut Vec<u8>,
    action: &mut Action<'_>,
) -> (usize, Result<Step, rustls::Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = match state {
        Err(error) => Err(error),
        Ok(ConnectionState::ReadTraffic(mut records)) => {
            let mut result = Ok(Step::Again);
            while let Some(record) = records.next_record() {
                match record {
                    Ok(record) => {
                        discard += record.discard;
                        plain(record.payload);
                    }
                    Err(error) => result = Err(error),
                }
            }
            result
        }
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            let start = out.len();
            if let Err(EncodeError::InsufficientSize(need)) = data.encode(&mut []) {
                out.resize(start + need.required_size, 0);
                let written = data.encode(out.get_mut(start..).unwrap_or_default()).unwrap_or(0);
                out.truncate(start + written);
            }
            Ok(Step::Again)
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            // It stands in the output, which is sent in order.
            data.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::PeerClosed) => Ok(Step::PeerClosed),
        Ok(ConnectionState::WriteTraffic(traffic)) => act(traffic, action),
        // Early data is never enabled; the rest waits for the peer.
        Ok(_) => Ok(Step::Idle),
    };
    (discard, step)
}

fn act<Data>(mut traffic: WriteTraffic<'_, Data>, action: &mut Action<'_>) -> Result<Step, rustls::Error> {
    match std::mem::replace(action, Action::None) {
        Action::None => Ok(Step::Idle),
        Action::Encrypted(written) => {
            *action = Action::Encrypted(written);
            Ok(Step::Idle)
        }
        Action::Encrypt { plain, out } => {
            let mut written = 0;
            for part in plain.into_iter().filter(|part| !part.is_empty()) {
                let room = out.get_mut(written..).unwrap_or_default();
                written += traffic.encrypt(part, room).map_err(|error| rustls::Error::General(error.to_string()))?;
            }
            *action = Action::Encrypted(written);
            Ok(Step::Idle)
        }
        Action::Close => {
            // Queued although there is no room here: it comes out as the next message to encode.
            let _ = traffic.queue_close_notify(&mut []);
            Ok(Step::Again)
        }
    }
}

impl Deref for Session {
    type Target = CommonState;

    fn deref(&self) -> &CommonState {
        match self {
            Self::Client(client) => client,
            Self::Server(server) => server,
        }
    }
}
