//! What kernels say: `__assertfail` and `printf`.

use std::fmt::Write as _;

use super::access::Environment;
use super::warp::Warp;
use crate::fault::Fault;
use crate::ptx::space::{locate, window};
use crate::ptx::syntax::Space;

/// The message of a failed assertion, from the places of its arguments.
pub(super) fn assertion(warp: &Warp, env: &Environment<'_>, lane: usize, places: [u32; 4]) -> String {
    let text = |place: u32| {
        let address = number(warp, lane, place.into(), 8);
        address.and_then(|address| text(warp, env, lane, address)).unwrap_or_else(|fault| fault.to_string())
    };
    let [message, file, line, function] = places;
    let line =
        number(warp, lane, line.into(), 4).map_or_else(|fault| fault.to_string(), |line| line.to_string());
    format!("assertion `{}` of `{}` in {}:{line}", text(message), text(function), text(file))
}

/// Writes formatted values to the standard output.
pub(super) fn print(
    warp: &mut Warp,
    env: &Environment<'_>,
    lane: usize,
    [format, values, result]: [u32; 3],
) -> Result<(), Fault> {
    let format = text(warp, env, lane, number(warp, lane, format.into(), 8)?)?;
    let mut values = number(warp, lane, values.into(), 8)?;
    let mut out = String::new();
    let mut count = 0u32;
    let mut rest = format.as_str();
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let spec = &rest[at + 1..];
        let len = spec.find(|c: char| c.is_ascii_alphabetic() && !"hlzjt".contains(c) || c == '%');
        let Some(len) = len else { break };
        let (flags, kind) = (&spec[..len], spec.as_bytes()[len]);
        rest = &spec[len + 1..];
        if kind == b'%' {
            out.push('%');
            continue;
        }
        let wide = flags.contains(['l', 'z', 'j', 't'])
            || matches!(kind, b's' | b'p' | b'f' | b'e' | b'g' | b'F' | b'E' | b'G');
        let size = if wide { 8 } else { 4 };
        values = values.next_multiple_of(size);
        let value = number_at(warp, env, lane, values, size as usize)?;
        values += size;
        count += 1;
        formatted(&mut out, flags, kind, value, wide, |address| text(warp, env, lane, address))?;
    }
    out.push_str(rest);
    print!("{out}");
    warp.local_bytes_mut(lane, result.into(), 4)?.copy_from_slice(&count.to_le_bytes());
    Ok(())
}

/// One value; of the flags, the number of digits behind the point.
fn formatted(
    out: &mut String,
    flags: &str,
    kind: u8,
    value: u64,
    wide: bool,
    text: impl Fn(u64) -> Result<String, Fault>,
) -> Result<(), Fault> {
    let digits = flags.split('.').nth(1).and_then(|digits| digits.parse().ok()).unwrap_or(6);
    let signed = if wide { value as i64 } else { i64::from(value as i32) };
    let written = match kind {
        b'd' | b'i' => write!(out, "{signed}"),
        b'x' => write!(out, "{value:x}"),
        b'X' => write!(out, "{value:X}"),
        b'o' => write!(out, "{value:o}"),
        b'p' => write!(out, "{value:#x}"),
        b'c' => write!(out, "{}", value as u8 as char),
        b's' => write!(out, "{}", text(value)?),
        b'e' | b'E' => write!(out, "{:.digits$e}", f64::from_bits(value)),
        b'f' | b'F' => write!(out, "{:.digits$}", f64::from_bits(value)),
        b'g' | b'G' => write!(out, "{}", f64::from_bits(value)),
        _ => write!(out, "{value}"),
    };
    // Writing to a string does not fail.
    let _ = written;
    Ok(())
}

/// A number in local memory.
fn number(warp: &Warp, lane: usize, address: u64, len: usize) -> Result<u64, Fault> {
    let mut bytes = [0; 8];
    bytes[..len].copy_from_slice(warp.local_bytes(lane, address, len)?);
    Ok(u64::from_le_bytes(bytes))
}

/// A number at a generic address.
fn number_at(
    warp: &Warp,
    env: &Environment<'_>,
    lane: usize,
    address: u64,
    len: usize,
) -> Result<u64, Fault> {
    let (space, at) = locate(address);
    if space == Space::Local {
        return number(warp, lane, at, len);
    }
    let mut bytes = [0; 8];
    bytes[..len].copy_from_slice(env.memory.read(at + window(space), len)?);
    Ok(u64::from_le_bytes(bytes))
}

/// A text that ends with a zero.
fn text(warp: &Warp, env: &Environment<'_>, lane: usize, address: u64) -> Result<String, Fault> {
    let mut bytes = Vec::new();
    loop {
        match number_at(warp, env, lane, address + bytes.len() as u64, 1)? as u8 {
            0 => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            byte => bytes.push(byte),
        }
    }
}
