//! Parsers of option values.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use crate::error::without_errno;
use crate::kind::Kind;

pub fn prog_type(text: &str) -> Result<Kind, String> {
    let error =
        "expected json, tar or wasm; to pass -p to the program, write it after PROG: ecli run PROG -p ...";
    Kind::from_str(text, false).map_err(|_| error.into())
}

/// Parses a number of bytes: `4096`, `512M`, `2GiB`, `none`.
pub fn size(text: &str) -> Result<u64, String> {
    let units = [('K', 10), ('M', 20), ('G', 30)];
    let number = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let shift = match text[number.len()..].to_ascii_uppercase().trim_end_matches("IB") {
        "" => Some(0),
        unit => units.iter().find(|(name, _)| unit == name.to_string()).map(|(_, shift)| *shift),
    };
    let size =
        number.parse::<u64>().ok().zip(shift).and_then(|(number, shift)| number.checked_mul(1 << shift));
    match size {
        _ if text == "none" => Ok(u64::MAX),
        None => Err("expected a number of bytes such as 512M, or none".into()),
        Some(size) => Ok(size),
    }
}

pub fn count(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "expected a whole number of at least 1".into())
}

pub fn existing_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    path.metadata().map_err(|error| without_errno(&error))?;
    Ok(path)
}

/// Ten years. The deadline of a longer time may overflow the clock.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// Parses `1m30s`, or a number of seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = seconds.map_or_else(|| humantime::parse_duration(text).map_err(|e| e.to_string()), Ok)?;
    match time {
        Duration::ZERO => Err("the time must be greater than 0".into()),
        _ if time > LONGEST => Err("the time must be at most ten years".into()),
        _ => Ok(time),
    }
}
