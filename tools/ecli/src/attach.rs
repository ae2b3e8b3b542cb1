//! `--attach PROG=TARGET`: where a program attaches in place of what the package says.

use eunomia::Vm;
use serde_json::{Map, Value};

use crate::error::{Code, Failure, Result};

/// Keys of a target whose value is a path or name, so that one that looks like a number stays text.
const TEXT_KEYS: [&str; 4] = ["attach", "path", "func", "cgroup"];

/// Applies the options in their order; several for one program are several targets.
pub fn apply(vm: &Vm, options: &[String]) -> Result<()> {
    let mut targets: Vec<(&str, Vec<Value>)> = Vec::new();
    for option in options {
        let bad = |why: &str| Failure::new(Code::Usage, format_args!("--attach {option}: {why}"));
        let (prog, text) = option
            .split_once('=')
            .ok_or_else(|| bad("PROG=KEY:VALUE[,KEY:VALUE...] or PROG={...} is wanted"))?;
        let target = target(text).map_err(|why| bad(&why))?;
        match targets.iter_mut().find(|(name, _)| *name == prog) {
            Some((_, list)) => list.push(target),
            None => targets.push((prog, vec![target])),
        }
    }
    for (prog, list) in targets {
        let json = Value::Array(list).to_string();
        let set = vm.prog_set_target_json(prog, &json);
        set.map_err(|e| Failure::from(e).with_code(Code::Usage).at("--attach"))?;
    }
    Ok(())
}

/// A target as JSON, or as pairs of the keys of a package's `progs[]` entries and their values.
fn target(text: &str) -> Result<Value, String> {
    if text.starts_with('{') {
        return serde_json::from_str(text).map_err(|e| e.to_string());
    }
    let mut object = Map::new();
    for pair in text.split(',') {
        let (key, value) = pair
            .split_once(':')
            .ok_or_else(|| format!("{pair:?} is no KEY:VALUE; keys are those of docs/package.md"))?;
        let number = value.parse::<i64>().ok().filter(|_| !TEXT_KEYS.contains(&key));
        let value = number.map_or_else(|| Value::from(value), Value::from);
        object.insert(key.to_owned(), value);
    }
    Ok(object.into())
}
