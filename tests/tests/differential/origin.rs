//! An origin that answers as the case at hand says, and records what it received.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use adit_tests::origin::serve;

/// What the origin does about one request.
#[derive(Clone)]
pub enum Reply {
    /// Sends this once the request is whole and stays for the next one.
    Answer(&'static str),
    /// The same, then FIN.
    AnswerAndClose(&'static str),
    /// Sends this once the head is there, then echoes raw bytes until their end.
    Tunnel(&'static str),
    /// Reads and never answers.
    Silence,
    /// FIN instead of an answer.
    Close,
    /// RST instead of an answer.
    Reset,
    /// Sends this, waits, then RST.
    AnswerAndReset(&'static str),
    /// Sends this, waits so many milliseconds, then sends the other and stays.
    Slowly(&'static str, u64, &'static str),
    /// No HTTP: sends this at once, then echoes until the end.
    Raw(&'static str),
}

#[derive(Default)]
struct State {
    script: Vec<Reply>,
    asked: usize,
    received: Vec<String>,
    generation: u64,
}

/// The origin of one proxy.
pub struct Origin {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl Origin {
    pub fn start() -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = state.clone();
        let port = serve(move |socket| connection(&shared, socket));
        Self { port, state }
    }

    /// A new case: its script (the last reply is repeated), nothing received.
    pub fn play(&self, script: Vec<Reply>) {
        let mut state = lock(&self.state);
        *state = State { script, generation: state.generation + 1, ..State::default() };
    }

    /// What was received in this case, one text for each request.
    pub fn received(&self) -> Vec<String> {
        lock(&self.state).received.clone()
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn next(state: &Mutex<State>) -> Reply {
    let mut state = lock(state);
    let index = state.asked.min(state.script.len().saturating_sub(1));
    state.asked += 1;
    state.script.get(index).cloned().unwrap_or(Reply::Close)
}

/// Where one request is written down.
struct Page<'a> {
    state: &'a Mutex<State>,
    index: usize,
    generation: u64,
}

impl<'a> Page<'a> {
    fn new(state: &'a Mutex<State>, text: String) -> Self {
        let mut open = lock(state);
        open.received.push(text);
        let (index, generation) = (open.received.len() - 1, open.generation);
        drop(open);
        Self { state, index, generation }
    }

    fn add(&self, data: &[u8]) {
        let mut state = lock(self.state);
        if state.generation == self.generation {
            state.received[self.index].push_str(&String::from_utf8_lossy(data));
        }
    }
}

fn connection(state: &Mutex<State>, mut socket: TcpStream) {
    let _ = socket.set_read_timeout(Some(Duration::from_secs(30)));
    let raw = match lock(state).script.first() {
        Some(Reply::Raw(hello)) => Some(*hello),
        _ => None,
    };
    if let Some(hello) = raw {
        let page = Page::new(state, "raw: ".to_owned());
        let _ = socket.write_all(hello.as_bytes());
        return echo(&page, &mut socket);
    }
    loop {
        let Some(head) = read_head(&mut socket) else { return };
        let page = Page::new(state, head.clone());
        let reply = next(state);
        if !matches!(reply, Reply::Tunnel(_) | Reply::Close | Reply::Reset) {
            read_body(&page, &mut socket, &head);
        }
        match reply {
            Reply::Answer(text) => {
                if socket.write_all(text.as_bytes()).is_err() {
                    return;
                }
            }
            Reply::AnswerAndClose(text) => {
                let _ = socket.write_all(text.as_bytes());
                return close(&mut socket);
            }
            Reply::Tunnel(text) => {
                let _ = socket.write_all(text.as_bytes());
                return echo(&page, &mut socket);
            }
            Reply::Silence => {
                let mut block = [0; 4096];
                loop {
                    match socket.read(&mut block) {
                        Ok(0) => return page.add(b"[FIN]"),
                        Ok(n) => page.add(&block[..n]),
                        Err(error) => return page.add(ended(&error)),
                    }
                }
            }
            Reply::Close => return close(&mut socket),
            Reply::Reset => return reset(&socket),
            Reply::AnswerAndReset(text) => {
                let _ = socket.write_all(text.as_bytes());
                std::thread::sleep(Duration::from_millis(150));
                return reset(&socket);
            }
            Reply::Slowly(first, pause, then) => {
                let _ = socket.write_all(first.as_bytes());
                std::thread::sleep(Duration::from_millis(pause));
                let _ = socket.write_all(then.as_bytes());
            }
            Reply::Raw(_) => return,
        }
    }
}

fn ended(error: &std::io::Error) -> &'static [u8] {
    if error.kind() == ErrorKind::ConnectionReset { b"[RST]" } else { b"[?]" }
}

fn close(socket: &mut TcpStream) {
    let _ = socket.shutdown(std::net::Shutdown::Write);
    let mut block = [0; 4096];
    while matches!(socket.read(&mut block), Ok(n) if n > 0) {}
}

fn reset(socket: &TcpStream) {
    let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

fn echo(page: &Page<'_>, socket: &mut TcpStream) {
    let mut block = [0; 65536];
    loop {
        match socket.read(&mut block) {
            Ok(0) => break page.add(b"[FIN]"),
            Ok(n) => {
                page.add(&block[..n]);
                if socket.write_all(&block[..n]).is_err() {
                    return page.add(b"[RST]");
                }
            }
            Err(error) => return page.add(ended(&error)),
        }
    }
    let _ = socket.shutdown(std::net::Shutdown::Write);
}

fn read_head(socket: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if !matches!(socket.read(&mut byte), Ok(1)) {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// The body as the head frames it; chunks are written down without their framing.
fn read_body(page: &Page<'_>, socket: &mut TcpStream, head: &str) {
    let lower = head.to_ascii_lowercase();
    if lower.contains("\r\nupgrade:") || lower.starts_with("connect ") {
        return;
    }
    if lower.contains("\r\ntransfer-encoding: chunked") {
        loop {
            let Some(line) = read_line(socket) else { return page.add(b"[cut]") };
            let Ok(size) = usize::from_str_radix(line.trim(), 16) else { return page.add(b"[bad chunk]") };
            if size == 0 {
                break;
            }
            let mut data = vec![0; size + 2];
            if socket.read_exact(&mut data).is_err() {
                return page.add(b"[cut]");
            }
            page.add(&data[..size]);
        }
        while let Some(line) = read_line(socket) {
            if line.trim().is_empty() {
                return;
            }
            page.add(format!("[trailer {}]", line.trim()).as_bytes());
        }
        return;
    }
    let length = lower.split("\r\n").find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let mut data = vec![0; length.unwrap_or(0)];
    match socket.read_exact(&mut data) {
        Ok(()) => page.add(&data),
        Err(_) => page.add(b"[cut]"),
    }
}

fn read_line(socket: &mut TcpStream) -> Option<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\n") {
        if !matches!(socket.read(&mut byte), Ok(1)) {
            return None;
        }
        line.push(byte[0]);
    }
    String::from_utf8(line).ok()
}
