//! Handles events in an async program, with tokio, until Ctrl-C.
//!
//! usage: async PACKAGE

use std::error::Error;
use std::time::Duration;

use eunomia::{Event, Flow, Format, Kind, Options, Vm};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{MissedTickBehavior, interval};

fn print(event: &Event) -> Flow {
    println!("{}", String::from_utf8_lossy(event.data));
    Flow::Continue
}

/// Waits for events and passes those that are available to `callback`. If it is cancelled, no event is lost.
async fn poll(vm: &AsyncFd<Vm>, callback: impl FnMut(&Event) -> Flow) -> Result<usize, Box<dyn Error>> {
    let mut ready = vm.readable().await?;
    let count = vm.get_ref().poll(Some(Duration::ZERO), Format::Json, callback)?;
    // A poll ends after its first batch. The descriptor is no longer readable if a poll finds nothing.
    if count == 0 {
        ready.clear_ready();
    }
    Ok(count)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let package = std::env::args().nth(1).ok_or("usage: async PACKAGE")?;
    let vm = Vm::new(Options::new())?;
    vm.open_file(&package, Kind::Json)?;
    vm.attach()?;
    // SAFETY: the vm keeps its descriptor open as long as it exists.
    let events = unsafe { AsyncFd::register_with_interest(vm, Interest::READABLE)? };
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // One future for the whole loop: a new one for each round would miss a signal that comes with an event.
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            polled = poll(&events, print) => drop(polled?),
            _ = tick.tick() => println!("tick"),
            _ = &mut interrupted => return Ok(()),
        }
    }
}
