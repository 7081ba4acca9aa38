//! The callee of the bench: a single-threaded HTTP/1.1 server that answers every request with its own body.
//!
//! It runs in its own process (`xtask bench-echo`), prints its port on the first line of standard output and ends when
//! its standard input ends, so that it never outlives the bench. Paths under `/dapr/` answer 404, as an app without
//! subscriptions does.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::event::epoll;

use super::http1::{Parsed, parse};
use super::socket::unpaced;

const LISTENER: u64 = u64::MAX;

struct Client {
    socket: OwnedFd,
    received: Vec<u8>,
    unsent: Vec<u8>,
    closing: bool,
}

/// Serves until standard input ends.
///
/// # Errors
/// When the listener or the poll cannot be made.
pub(crate) fn run() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").context("binding the echo app")?;
    listener.set_nonblocking(true)?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", listener.local_addr()?.port())?;
    out.flush()?;
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new()); // ended either way
        std::process::exit(0);
    });
    serve(&listener)
}

fn serve(listener: &TcpListener) -> Result<()> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let mut clients: Vec<Option<Client>> = Vec::new();
    let mut events = Vec::with_capacity(64);
    loop {
        events.clear();
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for requests"),
        }
        for event in &events {
            let token = event.data.u64();
            if token == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    unpaced(&stream)?;
                    let slot = clients.iter().position(Option::is_none).unwrap_or(clients.len());
                    if slot == clients.len() {
                        clients.push(None);
                    }
                    let socket: OwnedFd = stream.into();
                    epoll::add(&poll, &socket, epoll::EventData::new_u64(slot as u64), epoll::EventFlags::IN)?;
                    clients[slot] = Some(Client { socket, received: Vec::new(), unsent: Vec::new(), closing: false });
                }
                continue;
            }
            let index = usize::try_from(token).unwrap_or(usize::MAX);
            let Some(slot) = clients.get_mut(index) else {
                continue;
            };
            if let Some(client) = slot
                && !client.turn(&poll, token)
            {
                *slot = None; // closing the descriptor takes it out of the poll
            }
        }
    }
}

impl Client {
    /// Reads, answers, writes; false when the connection is finished.
    fn turn(&mut self, poll: &OwnedFd, token: u64) -> bool {
        let mut chunk = [0; 16 * 1024];
        match rustix::io::read(&self.socket, &mut chunk) {
            Ok(0) => return false,
            Ok(count) => self.received.extend_from_slice(&chunk[..count]),
            Err(rustix::io::Errno::AGAIN) => {}
            Err(_) => return false,
        }
        let had_unsent = !self.unsent.is_empty();
        loop {
            match parse(&self.received, false) {
                Parsed::Partial => break,
                Parsed::Broken(_) => return false,
                Parsed::Complete(message) => {
                    let head = &self.received[..message.head_bytes];
                    let (status, body): (_, &[u8]) = match head.split(|byte| *byte == b' ').nth(1).unwrap_or_default() {
                        path if path.starts_with(b"/dapr/") => ("404 Not Found", b""),
                        path if path.starts_with(b"/api/v2/spans") => ("202 Accepted", b""),
                        _ => ("200 OK", &message.body),
                    };
                    let end = if message.close { "connection: close\r\n" } else { "" };
                    let length = body.len();
                    self.unsent.extend_from_slice(
                        format!("HTTP/1.1 {status}\r\ncontent-type: application/octet-stream\r\ncontent-length: {length}\r\n{end}\r\n")
                            .as_bytes(),
                    );
                    self.unsent.extend_from_slice(body);
                    self.closing |= message.close;
                    self.received.drain(..message.wire_bytes);
                }
            }
        }
        if self.unsent.is_empty() {
            return true;
        }
        match rustix::io::write(&self.socket, &self.unsent) {
            Ok(count) => drop(self.unsent.drain(..count)),
            Err(rustix::io::Errno::AGAIN) => {}
            Err(_) => return false,
        }
        let has_unsent = !self.unsent.is_empty();
        if had_unsent != has_unsent {
            let mut flags = epoll::EventFlags::IN;
            if has_unsent {
                flags |= epoll::EventFlags::OUT;
            }
            if epoll::modify(poll, &self.socket, epoll::EventData::new_u64(token), flags).is_err() {
                return false;
            }
        }
        has_unsent || !self.closing
    }
}
