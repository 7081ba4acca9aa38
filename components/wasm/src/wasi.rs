//! The functions of WASI preview 1 that guests of TinyGo, Go, Rust and C need to start and run.
//!
//! There are no arguments, no environment, no files and no sockets: standard output and error go to the log, clocks and random
//! numbers work, the rest answers with an error number. *Invariant:* nothing here blocks a thread.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pillion_core::log::Logger;
use wasmi::{Error, ExternType, FuncType, Linker, Module, Val, ValType};

use crate::guest::{GuestState, Pause};
use crate::memory::{self, Host, charge, read_u32, write};

const MODULE: &str = "wasi_snapshot_preview1";
/// The most output of one call that is kept for the log.
const OUTPUT_LIMIT: usize = 64 * 1024;
/// The most random bytes in one call; the contract lets a host give any number, guests ask for a few.
const RANDOM_LIMIT: u32 = 1024 * 1024;
/// The most vectors of one write, and subscriptions of one poll.
const VECTOR_LIMIT: u32 = 1024;

/// Error numbers.
mod errno {
    pub(super) const SUCCESS: i32 = 0;
    pub(super) const BADF: i32 = 8;
    pub(super) const INVAL: i32 = 28;
    pub(super) const NOSYS: i32 = 52;
    pub(super) const SPIPE: i32 = 70;
}

/// Adds all functions to a linker; what `module` imports beyond them answers "not supported".
///
/// # Errors
/// Never, as each name is defined once.
#[rustfmt::skip] // a table
pub(crate) fn link(linker: &mut Linker<GuestState>, module: &Module) -> Result<(), Error> {
    // First a refusal for whatever the guest imports, then what is there in its place.
    linker.allow_shadowing(true);
    for import in module.imports().filter(|import| import.module() == MODULE) {
        if let ExternType::Func(signature) = import.ty() && signature.results() == [ValType::I32] {
            refuse(linker, import.name(), signature)?;
        }
    }
    linker.func_wrap(MODULE, "args_sizes_get", no_strings)?;
    linker.func_wrap(MODULE, "environ_sizes_get", no_strings)?;
    linker.func_wrap(MODULE, "args_get", |_: Host<'_>, _: u32, _: u32| errno::SUCCESS)?;
    linker.func_wrap(MODULE, "environ_get", |_: Host<'_>, _: u32, _: u32| errno::SUCCESS)?;
    linker.func_wrap(MODULE, "clock_res_get", clock_res_get)?;
    linker.func_wrap(MODULE, "clock_time_get", clock_time_get)?;
    linker.func_wrap(MODULE, "fd_write", fd_write)?;
    linker.func_wrap(MODULE, "fd_read", fd_read)?;
    linker.func_wrap(MODULE, "fd_seek", |_: Host<'_>, file: u32, _: i64, _: u32, _: u32| if file <= 2 { errno::SPIPE } else { errno::BADF })?;
    linker.func_wrap(MODULE, "fd_close", |_: Host<'_>, file: u32| if file <= 2 { errno::SUCCESS } else { errno::BADF })?;
    linker.func_wrap(MODULE, "fd_fdstat_get", fd_fdstat_get)?;
    linker.func_wrap(MODULE, "fd_fdstat_set_flags", |_: Host<'_>, file: u32, _: u32| if file <= 2 { errno::SUCCESS } else { errno::BADF })?;
    linker.func_wrap(MODULE, "fd_prestat_get", |_: Host<'_>, _: u32, _: u32| errno::BADF)?;
    linker.func_wrap(MODULE, "fd_prestat_dir_name", |_: Host<'_>, _: u32, _: u32, _: u32| errno::BADF)?;
    linker.func_wrap(MODULE, "random_get", random_get)?;
    linker.func_wrap(MODULE, "poll_oneoff", poll_oneoff)?;
    linker.func_wrap(MODULE, "sched_yield", |_: Host<'_>| errno::SUCCESS)?;
    linker.func_wrap(MODULE, "proc_exit", |_: Host<'_>, code: i32| -> Result<(), Error> { Err(Error::i32_exit(code)) })?;
    linker.allow_shadowing(false);
    Ok(())
}

/// A function of files or sockets, of which there are none.
fn refuse(linker: &mut Linker<GuestState>, name: &str, signature: &FuncType) -> Result<(), Error> {
    let number = if name.starts_with("fd_") || name.starts_with("path_") { errno::BADF } else { errno::NOSYS };
    linker.func_new(MODULE, name, signature.clone(), move |_, _, results| {
        if let [result] = results {
            *result = Val::I32(number);
        }
        Ok(())
    })?;
    Ok(())
}

fn no_strings(mut host: Host<'_>, count: u32, size: u32) -> Result<i32, Error> {
    write(&mut host, count, &0_u32.to_le_bytes())?;
    write(&mut host, size, &0_u32.to_le_bytes())?;
    Ok(errno::SUCCESS)
}

fn clock_res_get(mut host: Host<'_>, _clock: u32, result: u32) -> Result<i32, Error> {
    let resolution: u64 = if host.data().clocks.strict { 1_000_000 } else { 1_000 };
    write(&mut host, result, &resolution.to_le_bytes())?;
    Ok(errno::SUCCESS)
}

fn clock_time_get(mut host: Host<'_>, clock: u32, _precision: u64, result: u32) -> Result<i32, Error> {
    let clocks = &mut host.data_mut().clocks;
    let time = match clock {
        0 => clocks.wall(),
        1 => clocks.monotonic(),
        _ => return Ok(errno::INVAL),
    };
    write(&mut host, result, &time.to_le_bytes())?;
    Ok(errno::SUCCESS)
}

fn fd_write(mut host: Host<'_>, file: u32, vectors: u32, count: u32, written: u32) -> Result<i32, Error> {
    if file != 1 && file != 2 {
        return Ok(errno::BADF);
    }
    if count > VECTOR_LIMIT {
        return Ok(errno::INVAL);
    }
    let mut total: u32 = 0;
    for vector in (0..count).map(|index| vectors.wrapping_add(index * 8)) {
        let start = read_u32(&mut host, vector)?;
        let length = read_u32(&mut host, vector.wrapping_add(4))?;
        let bytes = memory::read(&mut host, "output", start, length)?;
        host.data_mut().output.push(file, &bytes);
        total = total.wrapping_add(length);
    }
    write(&mut host, written, &total.to_le_bytes())?;
    Ok(errno::SUCCESS)
}

/// Standard input is at its end.
fn fd_read(mut host: Host<'_>, file: u32, _vectors: u32, _count: u32, read: u32) -> Result<i32, Error> {
    if file != 0 {
        return Ok(errno::BADF);
    }
    write(&mut host, read, &0_u32.to_le_bytes())?;
    Ok(errno::SUCCESS)
}

/// The standard files are character devices with all rights but seeking.
fn fd_fdstat_get(mut host: Host<'_>, file: u32, result: u32) -> Result<i32, Error> {
    if file > 2 {
        return Ok(errno::BADF);
    }
    let mut stat = [0_u8; 24];
    stat[0] = 2; // a character device
    stat[8] = 0b0100_0010; // read and write
    write(&mut host, result, &stat)?;
    Ok(errno::SUCCESS)
}

fn random_get(mut host: Host<'_>, buffer: u32, length: u32) -> Result<i32, Error> {
    if length > RANDOM_LIMIT {
        return Ok(errno::INVAL);
    }
    charge(&mut host, length as usize * 8)?;
    let mut bytes = vec![0; length as usize];
    host.data_mut().clocks.random(&mut bytes).map_err(Error::new)?;
    write(&mut host, buffer, &bytes)?;
    Ok(errno::SUCCESS)
}

/// A sleep that the guest is in, with what it is told at the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sleep {
    pub(crate) length: Duration,
    user_data: u64,
    /// Where the event goes.
    pub(crate) events: u32,
    /// Where the number of events goes.
    pub(crate) count: u32,
}

impl Sleep {
    /// The event: no error, a clock fired.
    pub(crate) fn event(&self) -> [u8; 32] {
        let mut event = [0; 32];
        event[..8].copy_from_slice(&self.user_data.to_le_bytes());
        event
    }
}

/// Waits for the earliest of the clocks that are asked for. There is nothing else to wait for.
fn poll_oneoff(mut host: Host<'_>, subscriptions: u32, events: u32, number: u32, count: u32) -> Result<i32, Error> {
    if number == 0 || number > VECTOR_LIMIT {
        return Ok(errno::INVAL);
    }
    let mut earliest: Option<(u64, u64)> = None;
    for start in (0..number).map(|index| subscriptions.wrapping_add(index * 48)) {
        let subscription = memory::read(&mut host, "subscription", start, 48)?;
        let number = |at: usize| subscription[at..at + 8].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        if subscription[8] != 0 {
            continue; // a file: never ready
        }
        let absolute = subscription[40] & 1 != 0;
        let clocks = &mut host.data_mut().clocks;
        let now = match (absolute, number(16) & 0xffff_ffff) {
            (false, _) => 0,
            (true, 0) => clocks.wall(),
            (true, _) => clocks.monotonic(),
        };
        let wait = number(24).saturating_sub(now);
        if earliest.is_none_or(|(shortest, _)| wait < shortest) {
            earliest = Some((wait, number(0)));
        }
    }
    let Some((wait, user_data)) = earliest else { return Ok(errno::NOSYS) };
    let length =
        if host.data().clocks.strict { Duration::ZERO } else { Duration::from_nanos(wait).min(Sleep::LONGEST) };
    Err(Error::host(Pause::Sleep(Sleep { length, user_data, events, count })))
}

/// Time and randomness of one guest; fake ones in the strict sandbox.
#[derive(Debug)]
pub(crate) struct Clocks {
    strict: bool,
    started: Instant,
    fake_wall: u64,
    fake_monotonic: u64,
    seed: u64,
}

impl Clocks {
    /// A step of a fake clock with each look.
    const STEP: u64 = 1_000_000;

    pub(crate) fn new(strict: bool) -> Self {
        let whole_seconds = wall_now() / 1_000_000_000 * 1_000_000_000;
        Self {
            strict,
            started: Instant::now(),
            fake_wall: whole_seconds,
            fake_monotonic: 0,
            seed: 0x9e37_79b9_7f4a_7c15,
        }
    }

    fn wall(&mut self) -> u64 {
        if !self.strict {
            return wall_now();
        }
        self.fake_wall += Self::STEP;
        self.fake_wall
    }

    fn monotonic(&mut self) -> u64 {
        if !self.strict {
            return nanoseconds(self.started.elapsed());
        }
        self.fake_monotonic += Self::STEP;
        self.fake_monotonic
    }

    fn random(&mut self, bytes: &mut [u8]) -> Result<(), String> {
        if !self.strict {
            return getrandom::fill(bytes).map_err(|error| format!("no random numbers: {error}"));
        }
        for byte in bytes {
            // xorshift64: the same numbers for each instance, which is what the sandbox promises.
            self.seed ^= self.seed << 13;
            self.seed ^= self.seed >> 7;
            self.seed ^= self.seed << 17;
            *byte = self.seed.to_le_bytes()[7];
        }
        Ok(())
    }
}

fn wall_now() -> u64 {
    nanoseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What a guest wrote to its standard output and error since the last look.
#[derive(Debug, Default)]
pub(crate) struct Output {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Output {
    fn push(&mut self, file: u32, bytes: &[u8]) {
        let to = if file == 2 { &mut self.stderr } else { &mut self.stdout };
        let space = OUTPUT_LIMIT - to.len().min(OUTPUT_LIMIT);
        to.extend_from_slice(&bytes[..bytes.len().min(space)]);
    }

    pub(crate) fn flush(&mut self, log: &Logger) {
        for (name, bytes) in [("stdout", &mut self.stdout), ("stderr", &mut self.stderr)] {
            if !bytes.is_empty() {
                log.debug(format_args!("wasm {name}: {}", String::from_utf8_lossy(bytes)));
                bytes.clear();
            }
        }
    }
}
