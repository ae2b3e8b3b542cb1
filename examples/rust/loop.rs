//! Handles events in the host's own event loop, alongside its other work, until Ctrl-C.
//!
//! usage: loop PACKAGE

use std::error::Error;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use eunomia::{Event, Flow, Format, Kind, Options, Status, Vm};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;

/// The interval of the other work.
const TICK: Duration = Duration::from_secs(1);

fn print(event: &Event) -> Flow {
    println!("{}", String::from_utf8_lossy(event.data));
    Flow::Continue
}

fn run(vm: &Vm) -> Result<(), Box<dyn Error>> {
    let mut next = Instant::now() + TICK;
    loop {
        let left = Timespec::try_from(next.saturating_duration_since(Instant::now()))?;
        // Any other descriptors the program waits for go here too.
        match poll(&mut [PollFd::new(vm, PollFlags::IN)], Some(&left)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if Instant::now() >= next {
            println!("tick");
            next += TICK;
        }
        match vm.poll(Some(Duration::ZERO), Format::Json, &mut print) {
            Err(error) if error.status() == Status::Stopped => return Ok(()),
            result => result?,
        };
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let package = std::env::args().nth(1).ok_or("usage: loop PACKAGE")?;
    let vm = Arc::new(Vm::new(Options::new())?);
    vm.open_file(&package, Kind::Json)?;
    vm.attach()?;
    let stopped = Arc::clone(&vm);
    let mut signals = Signals::new([SIGINT])?;
    thread::spawn(move || signals.forever().for_each(|_| stopped.stop())); // makes the vm's descriptor readable
    run(&vm)
}
