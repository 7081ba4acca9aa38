//! The driver against small servers on threads: what it counts and from when.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use super::*;

const REQUEST: &[u8] = b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\n\r\nhi";

fn plan(address: SocketAddr, pace: Pace, connections: usize, duration: Duration) -> Plan {
    Plan {
        endpoint: Endpoint::Tcp(address),
        request: REQUEST.to_vec(),
        connections,
        keep_alive: true,
        pace,
        duration,
        warm_up: Duration::ZERO,
    }
}

/// Serves one connection; before the answer number `stall_at` it waits `stall`.
fn server(stall_at: usize, stall: Duration, answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; REQUEST.len()];
        let mut number = 0;
        while stream.read_exact(&mut request).is_ok() {
            if number == stall_at {
                thread::sleep(stall);
            }
            number += 1;
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    });
    address
}

#[test]
fn a_stall_counts_for_every_request_it_delayed() {
    // 100 requests a second for 0.5 s; the 10th answer comes 200 ms late, and there is one connection only.
    // A driver with coordinated omission would see one slow request; about 20 were due meanwhile.
    let stall = Duration::from_millis(200);
    let address = server(10, stall, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let outcome = drive(&plan(address, Pace::Rated(100.0), 1, Duration::from_millis(500))).unwrap();
    assert_eq!(outcome.errors, 0, "{:?}", outcome.first_error);
    assert_eq!(outcome.latencies.len(), 50, "every due request is answered and recorded once");
    let slow = outcome.latencies.count_between(50_000_000, u64::MAX / 2);
    assert!(slow >= 10, "only {slow} requests show the stall");
    assert!(outcome.latencies.max() >= nanoseconds(stall) * 9 / 10);
    assert!(outcome.in_flight_max >= 10);
}

#[test]
fn closed_loop_keeps_one_request_on_each_connection() {
    let address = server(usize::MAX, Duration::ZERO, b"HTTP/1.1 204 No Content\r\n\r\n");
    let outcome = drive(&plan(address, Pace::Closed, 1, Duration::from_millis(200))).unwrap();
    assert_eq!(outcome.errors, 0, "{:?}", outcome.first_error);
    assert!(outcome.answers > 20);
    assert_eq!(outcome.in_flight_max, 1);
}

#[test]
fn refusals_are_errors_with_their_text_and_not_latencies() {
    let answer = b"HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\nnope";
    let address = server(usize::MAX, Duration::ZERO, answer);
    let outcome = drive(&plan(address, Pace::Rated(50.0), 1, Duration::from_millis(100))).unwrap();
    assert_eq!(outcome.latencies.len(), 0);
    assert_eq!(outcome.errors, 5);
    assert_eq!(outcome.first_error.as_deref(), Some("status 500: nope"));
}

#[test]
fn nobody_listening_is_said_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let Err(error) = drive(&plan(address, Pace::Closed, 1, Duration::from_millis(10))) else {
        panic!("connected to nobody");
    };
    assert!(format!("{error:#}").contains(&address.to_string()), "{error:#}");
}
