//! Replaces a running package with a new version, and returns to the old one if no event comes within 10 seconds.
//!
//! usage: replace PACKAGE.json NEW.json

use std::error::Error;
use std::time::Duration;

use eunomia::vm::ReplaceOptions;
use eunomia::{Event, Flow, Format, Kind, Options, Vm};

fn print(event: &Event) -> Flow {
    println!("{}", String::from_utf8_lossy(event.data));
    Flow::Continue
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(package), Some(next)) = (arguments.next(), arguments.next()) else {
        return Err("usage: replace PACKAGE NEW".into());
    };
    let vm = Vm::new(Options::new().replaceable(true))?;
    vm.open_file(&package, Kind::Json)?;
    vm.attach()?;
    vm.poll(None, Format::Json, print)?;

    // Everything that can fail or takes long is in prepare. If it fails, the old version keeps running.
    let mut options = ReplaceOptions::default();
    options.keep_old = true;
    let prepared = vm.prepare(&std::fs::read(next)?, options)?;
    let report = prepared.flip()?; // from here on, each event is one of the new version
    println!("{}", report.to_json());

    if vm.poll(Some(Duration::from_secs(10)), Format::Json, print)? > 0 {
        vm.commit()?;
        println!("the new version stays");
    } else {
        vm.rollback()?;
        println!("the old version is back");
    }
    Ok(())
}
