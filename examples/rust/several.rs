//! Runs several packages at once, each in a vm with a thread, until Ctrl-C.
//!
//! usage: several PACKAGE...

use std::error::Error;
use std::sync::Arc;
use std::thread;

use eunomia::{Event, Flow, Format, Kind, Options, Result, Vm};
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;

fn start(package: &str) -> Result<Vm> {
    let vm = Vm::new(Options::new())?;
    vm.open_file(package, Kind::Json)?;
    vm.attach()?;
    Ok(vm)
}

fn run(vm: &Vm, package: &str) -> Result<()> {
    vm.run(Format::Json, |event: &Event| {
        println!("{package} {}", String::from_utf8_lossy(event.data));
        Flow::Continue
    })
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let packages: Vec<String> = std::env::args().skip(1).collect();
    let vms = packages.iter().map(|package| start(package)).collect::<Result<Vec<Vm>>>()?;
    let vms = Arc::new(vms);
    let stopped = Arc::clone(&vms);
    let mut signals = Signals::new([SIGINT])?;
    thread::spawn(move || signals.forever().for_each(|_| stopped.iter().for_each(Vm::stop)));
    thread::scope(|scope| {
        let work = vms.iter().zip(&packages).map(|(vm, package)| scope.spawn(move || run(vm, package)));
        let work: Vec<_> = work.collect();
        work.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    Ok(())
}
