//! Guest memory as seen by host functions, and what a host function costs.

use wasmi::{Caller, Error, Extern, Memory};

use crate::guest::GuestState;

/// Fuel for a host call beside the bytes it moves: about the work of these many instructions.
const HOST_CALL_FUEL: u64 = 100;
/// Bytes that a host function moves for one unit of fuel.
const BYTES_PER_FUEL: u64 = 8;

/// A host function at work.
pub(crate) type Host<'a> = Caller<'a, GuestState>;

fn memory(host: &Host<'_>) -> Result<Memory, Error> {
    host.get_export("memory").and_then(Extern::into_memory).ok_or_else(|| Error::new("the guest exports no memory"))
}

/// Takes the fuel of a host call that moves `bytes`, so that calls to the host count against the guest's time.
pub(crate) fn charge(host: &mut Host<'_>, bytes: usize) -> Result<(), Error> {
    let cost = HOST_CALL_FUEL + bytes as u64 / BYTES_PER_FUEL;
    let left = host.get_fuel()?.saturating_sub(cost);
    host.set_fuel(left)
}

/// A copy of guest memory.
///
/// # Errors
/// The region is not in memory; `what` names it.
pub(crate) fn read(host: &mut Host<'_>, what: &str, start: u32, length: u32) -> Result<Vec<u8>, Error> {
    charge(host, length as usize)?;
    if length == 0 {
        return Ok(Vec::new());
    }
    let memory = memory(host)?;
    let data = memory.data(&*host);
    let found = data.get(start as usize..).and_then(|data| data.get(..length as usize));
    found.map(<[u8]>::to_vec).ok_or_else(|| Error::new(format!("out of memory reading {what}")))
}

/// Puts bytes into guest memory.
///
/// # Errors
/// The region is not in memory.
pub(crate) fn write(host: &mut Host<'_>, start: u32, bytes: &[u8]) -> Result<(), Error> {
    charge(host, bytes.len())?;
    if bytes.is_empty() {
        return Ok(());
    }
    let memory = memory(host)?;
    memory
        .write(&mut *host, start as usize, bytes)
        .map_err(|_| Error::new("out of memory: the guest passed a region outside its memory"))
}

/// Writes when the buffer is large enough; the length either way, so that the guest can come again with a larger one.
pub(crate) fn write_if_fits(host: &mut Host<'_>, buffer: u32, limit: u32, bytes: &[u8]) -> Result<u32, Error> {
    let length = u32::try_from(bytes.len()).map_err(|_| Error::new("value too long"))?;
    if length <= limit {
        write(host, buffer, bytes)?;
    } else {
        charge(host, 0)?;
    }
    Ok(length)
}

/// Writes NUL-terminated values when they fit; their count in the high and their size in the low 32 bits either way.
pub(crate) fn write_values(host: &mut Host<'_>, buffer: u32, limit: u32, values: &[Vec<u8>]) -> Result<u64, Error> {
    let mut joined = Vec::new();
    for value in values {
        joined.extend_from_slice(value);
        joined.push(0);
    }
    let size = write_if_fits(host, buffer, limit, &joined)?;
    Ok((values.len() as u64) << 32 | u64::from(size))
}

/// A little-endian `u32` in guest memory.
pub(crate) fn read_u32(host: &mut Host<'_>, start: u32) -> Result<u32, Error> {
    let bytes = read(host, "a number", start, 4)?;
    Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
}
