//! Runs host programs until they have printed the expected lines, and then ends them.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Much longer than any host takes; reached only if the output never comes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts `command` and waits for lines that contain the wanted strings, in any order, while other programs start and exit.
/// The command has to exit by itself with status 0.
pub fn prints(command: &mut Command, wanted: &[&str]) {
    watch(command, wanted, |_| ());
}

/// Does the same with a host that runs until it gets SIGINT.
pub fn prints_until_interrupted(command: &mut Command, wanted: &[&str]) {
    watch(command, wanted, |host| {
        Command::new("kill").args(["-INT", &host.id().to_string()]).status().expect("kill runs");
    });
}

fn watch(command: &mut Command, wanted: &[&str], end: impl Fn(&Child)) {
    // A shell that runs the tests in the background ignores the signal.
    // SAFETY: `signal` is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            Ok(())
        });
    }
    let mut host = command.stdout(Stdio::piped()).spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let lines = lines(&mut host);
    let missing = wait(&lines, wanted);
    end(&host);
    let status = ended(&mut host);
    assert!(missing.is_empty(), "{command:?} did not print {missing:?}; {status}");
    assert_eq!(status, "exit status: 0", "{command:?}");
}

fn lines(host: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    let output = BufReader::new(host.stdout.take().expect("it is piped"));
    std::thread::spawn(move || {
        // Reads to the end even after the test has seen enough, so that the host does not block.
        output.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
    });
    receiver
}

/// Returns the wanted strings that were not printed before the host exited or the time ran out.
fn wait<'a>(lines: &Receiver<String>, wanted: &[&'a str]) -> Vec<&'a str> {
    let mut missing = wanted.to_vec();
    let deadline = Instant::now() + PATIENCE;
    while !missing.is_empty() && Instant::now() < deadline {
        Command::new("true").status().expect("true runs");
        match lines.recv_timeout(Duration::from_millis(20)) {
            Ok(line) => missing.retain(|text| !line.contains(text)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    missing
}

fn ended(host: &mut Child) -> String {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = host.try_wait().expect("the host is ours") {
            return status.to_string();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    host.kill().and_then(|()| host.wait()).expect("the host can be killed");
    "it did not end".to_string()
}
