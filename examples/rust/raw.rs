//! Reads raw records of the example "bootstrap" as structs, without JSON, until Ctrl-C.
//!
//! usage: raw target/packages/bootstrap/package.json

use std::error::Error;
use std::ffi::CStr;
use std::sync::Arc;
use std::thread;

use eunomia::{Event, Flow, Format, Kind, Options, Vm};
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;
use zerocopy::FromBytes;

/// struct event of examples/bpf/bootstrap/bootstrap.h. Padding is written out, and a bool of C is a byte.
#[derive(FromBytes)]
#[repr(C)]
struct Record {
    pid: i32,
    _ppid: i32,
    exit_code: u32,
    _padding: u32,
    _duration_ns: u64,
    comm: [u8; 16],
    filename: [u8; 128],
    exit_event: u8,
    _tail: [u8; 7],
}

fn text(bytes: &[u8]) -> String {
    CStr::from_bytes_until_nul(bytes).unwrap_or_default().to_string_lossy().into_owned()
}

fn show(event: &Event) -> Flow {
    // This returns an error if the data is shorter than the struct.
    if let Ok((record, _)) = Record::read_from_prefix(event.data) {
        let what = match record.exit_event {
            0 => text(&record.filename),
            _ => format!("exit {}", record.exit_code),
        };
        println!("{} {} {what}", record.pid, text(&record.comm));
    }
    Flow::Continue
}

fn main() -> Result<(), Box<dyn Error>> {
    let package = std::env::args().nth(1).ok_or("usage: raw PACKAGE")?;
    let vm = Arc::new(Vm::new(Options::new())?);
    vm.open_file(&package, Kind::Json)?;
    vm.load()?;
    let size = vm.source_at(0)?.record_size as usize;
    if size != size_of::<Record>() {
        return Err(format!("{package}: its records have {size} bytes, not {}", size_of::<Record>()).into());
    }
    vm.attach()?;
    let stopped = Arc::clone(&vm);
    let mut signals = Signals::new([SIGINT])?;
    thread::spawn(move || signals.forever().for_each(|_| stopped.stop()));
    Ok(vm.run(Format::Raw, &mut show)?)
}
