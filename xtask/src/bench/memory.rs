//! `bench memory`: whether a sidecar grows with what it has seen: a million invocations of ten thousand different paths.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};

use super::http1::{Parsed, parse};
use super::options::Options;
use super::paths::{Names, PairForm, Sidecar, pair};
use super::process::{Process, resident_kib};

const REQUESTS: usize = WARM_UP + 1_000_000;
const PATHS: usize = 10_000;
/// Memory is compared with what it was after these: connections are open then, buffers have their size.
const WARM_UP: usize = 200_000;
const STEP: usize = 100_000;

/// Sends the requests and prints what both sidecars of a pair hold resident on the way.
///
/// # Errors
/// When the pair does not start or a request is not answered with 200.
pub(crate) fn run(options: &Options, directory: &Path) -> Result<()> {
    let (_app, app_port) = Process::start_echo("echo app", directory)?;
    let title = "two sidecars, low cardinality";
    let measured =
        pair("memory", title, &Sidecar::ours()?, PairForm::LowCardinality, Names::Default, app_port, directory)?;
    let super::driver::Endpoint::Tcp(address) = measured.endpoint else { bail!("the caller has no port") };
    let resident = || measured.processes.iter().map(|process| resident_kib(process.id())).collect::<Vec<_>>();
    let started = Instant::now();
    let mut before = Vec::new();
    for done in (0..REQUESTS).step_by(STEP) {
        send(address.port(), done..done + STEP, options.connections)?;
        let now = resident();
        println!("{:>9} requests: RSS {now:?} KiB (caller, callee)", done + STEP);
        if done + STEP == WARM_UP {
            before = now;
        }
    }
    let growth: Vec<i64> = resident().iter().zip(&before).map(|(now, before)| *now as i64 - *before as i64).collect();
    println!(
        "growth over {} requests of {PATHS} paths, after {WARM_UP}: {growth:?} KiB; {:.0} requests/s",
        REQUESTS - WARM_UP,
        REQUESTS as f64 / started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Sends the requests of these numbers over some connections and reads each answer.
fn send(port: u16, numbers: std::ops::Range<usize>, connections: usize) -> Result<()> {
    let connections = connections.max(1);
    std::thread::scope(|scope| {
        let numbers = &numbers;
        let workers: Vec<_> = (0..connections)
            .map(|first| scope.spawn(move || exchange_all(port, numbers.clone().skip(first).step_by(connections))))
            .collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(done) => done,
            Err(_) => bail!("a connection of the bench panicked"),
        })
    })
}

fn exchange_all(port: u16, numbers: impl Iterator<Item = usize>) -> Result<()> {
    let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    stream.set_nodelay(true)?;
    let mut received = Vec::new();
    let mut chunk = [0; 4096];
    for number in numbers {
        let path = number % PATHS;
        let request = format!(
            "POST /orders/{path}/lines?number={number} HTTP/1.1\r\nhost: localhost\r\ndapr-app-id: callee-memory\r\n\
             content-length: 2\r\n\r\n{{}}"
        );
        stream.write_all(request.as_bytes())?;
        received.clear();
        loop {
            match parse(&received, true) {
                Parsed::Complete(message) if message.status == 200 => break,
                Parsed::Complete(message) => {
                    bail!("status {}: {}", message.status, String::from_utf8_lossy(&message.body))
                }
                Parsed::Broken(why) => bail!("{why}"),
                Parsed::Partial => {}
            }
            match stream.read(&mut chunk)? {
                0 => bail!("connection closed before the answer was complete"),
                count => received.extend_from_slice(&chunk[..count]),
            }
        }
    }
    Ok(())
}
