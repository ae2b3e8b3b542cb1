//! `/v1/tasks/{id}/maps`: the maps of a running task, and the entries of one.

use std::sync::Arc;

use eunomia::{Status, Vm};
use eunomia_records::record_clock;
use http::StatusCode;
use serde_json::{Value, json};

use super::{Api, input, ok};
use crate::entry::Entry;
use crate::error::{ApiError, Result};
use crate::http::{Request, Response};
use crate::spec::hex;
use crate::task::Task;
use crate::tasks::Tasks;

/// The number of entries of a page: the default, and the maximum.
const PAGE: usize = 1000;
const MAX_PAGE: usize = 10_000;
/// The size in bytes at which a page ends.
const MAX_BYTES: usize = 4 << 20;
/// The number of entries that are read at a time. No events are read during that time.
const AT_ONCE: usize = 64;

/// The entries that a request asks for.
struct Page {
    /// The key of the last entry of the previous page.
    after: Option<Vec<u8>>,
    limit: usize,
}

impl Api {
    pub(super) async fn maps(&self, id: u64) -> Result<Response> {
        let task = self.tasks.get(id)?;
        self.blocking(move |tasks| {
            let vm = running(&task)?;
            let described = tasks.between_turns(|| vm.describe())?;
            let described: Value = serde_json::from_str(&described).unwrap_or_default();
            Ok(ok(json!({"maps": described["maps"]}).to_string()))
        })
        .await
    }

    pub(super) async fn map(&self, request: &Request, id: u64) -> Result<Response> {
        let task = self.tasks.get(id)?;
        let path = request.head.uri.path().rsplit('/').next().unwrap_or_default();
        let name = input::decoded("the name of the map", path)?;
        let page = Page::of(request)?;
        self.blocking(move |tasks| entries(tasks, &*running(&task)?, &name, page)).await.map(ok)
    }
}

/// Reads the events of a task, and its maps.
fn running(task: &Task) -> Result<Arc<Vm>> {
    task.current().vm.clone().ok_or_else(|| {
        let text = format!("task {} is not running, so it has no maps", task.id);
        ApiError::new(StatusCode::CONFLICT, "failed", text)
    })
}

impl Page {
    fn of(request: &Request) -> Result<Page> {
        let mut page = Page { after: None, limit: PAGE };
        for (name, value) in input::query(request, &["after", "limit"])? {
            if name == "after" {
                page.after = Some(bytes(value).ok_or_else(|| {
                    let text = format!("after: expected the value of \"next\" of a page, found {value:?}");
                    ApiError::invalid(text)
                })?);
            } else {
                let limit = value.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
                page.limit = limit.ok_or_else(|| {
                    ApiError::invalid(format_args!("limit: expected 1 to {MAX_PAGE}, found {value:?}"))
                })?;
            }
        }
        Ok(page)
    }
}

/// Bytes from hexadecimal digits.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some((digit(high)? << 4 | digit(low)?) as u8),
        _ => None,
    };
    text.as_bytes().chunks(2).map(byte).collect()
}

/// One page of the entries of a map.
fn entries(tasks: &Tasks, vm: &Vm, name: &str, page: Page) -> Result<String> {
    let entry = Entry::new(tasks.between_turns(|| vm.map_find(name))?);
    let mut key = page.after;
    if let Some(key) = &key {
        tasks.between_turns(|| check_cursor(vm, &entry, name, key))?;
    }
    let (mut out, mut count, mut is_end) = (Vec::new(), 0, false);
    while !is_end && count < page.limit && out.len() < MAX_BYTES {
        let most = AT_ONCE.min(page.limit - count);
        (count, is_end) = tasks.between_turns(|| {
            let added = some(vm, &entry, name, &mut key, most, &mut out)?;
            Ok::<_, ApiError>((count + added, added < most))
        })?;
    }
    let next = key.filter(|_| !is_end).map(|key| hex(&key));
    let entries = String::from_utf8_lossy(&out);
    Ok(format!("{{\"map\":{},\"entries\":[{entries}],\"next\":{}}}", json!(name), json!(next)))
}

/// Checks a cursor, which is a key. If the map no longer has that key, the kernel would begin again at the first entry.
fn check_cursor(vm: &Vm, entry: &Entry, name: &str, key: &[u8]) -> Result<()> {
    if key.len() != entry.map.key_size as usize {
        let text = format!("after: a key of {name:?} has {} bytes, not {}", entry.map.key_size, key.len());
        return Err(ApiError::invalid(text));
    }
    match vm.map_get(name, key, &mut vec![0; entry.value_len()]) {
        Err(error) if error.status() == Status::NotFound => {
            let text = format!("after: {name:?} has no entry with this key any more; begin again");
            Err(ApiError::new(StatusCode::CONFLICT, "conflict", text))
        }
        other => Ok(other?),
    }
}

/// Appends at most `most` entries after `key`, and sets `key` to the key of the last one. Returns their number, which is less than
/// `most` at the end of the map.
fn some(
    vm: &Vm,
    entry: &Entry,
    name: &str,
    key: &mut Option<Vec<u8>>,
    most: usize,
    out: &mut Vec<u8>,
) -> Result<usize> {
    let key_size = entry.map.key_size as usize;
    let mut bytes = vec![0; key_size + entry.value_len()];
    for count in 0..most {
        let (next, value) = bytes.split_at_mut(key_size);
        match vm.map_next(name, key.as_deref(), next) {
            Err(error) if error.status() == Status::NotFound => return Ok(count),
            other => other?,
        }
        match vm.map_get(name, next, value) {
            // The entry was removed after its key was read.
            Err(error) if error.status() == Status::NotFound => {}
            other => {
                other?;
                if !out.is_empty() {
                    out.push(b',');
                }
                entry.json(next, value, &record_clock::now(), out);
            }
        }
        *key = Some(bytes[..key_size].to_vec());
    }
    Ok(most)
}
