//! Random records of any length with random types: valid JSON, and text, without a panic.
#![no_main]

use eunomia::render::{Clock, Plan};
use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    let Ok(Some(made)) = fuzz::a_type(&mut input) else { return };
    let Ok(plan) = Plan::new(&made.ty) else { return };
    let record = input.take_rest();
    let (mut json, mut text) = (Vec::new(), Vec::new());
    plan.json(record, &Clock::new(|| 0), &mut json);
    let is_longer = record.len() > made.ty.size || !made.is_fixed;
    assert!(
        is_longer || json.len() <= plan.max_json_len(),
        "{} bytes, at most {} foreseen",
        json.len(),
        plan.max_json_len()
    );
    let read: Result<serde_json::Value, _> = serde_json::from_slice(&json);
    assert!(read.is_ok(), "{read:?} in {}", String::from_utf8_lossy(&json));
    // A record reads as zero beyond its end.
    let mut whole = record.to_vec();
    whole.resize(made.ty.size.max(record.len()), 0);
    let mut again = Vec::new();
    plan.json(&whole, &Clock::new(|| 0), &mut again);
    assert!(json == again || !made.is_fixed, "{}", difference(&json, &again));
    plan.text_header(&mut text);
    plan.text_row(b"12:00:00", record, &Clock::new(|| 0), &mut text);
    plan.text_members(record, "comm", &Clock::new(|| 0), &mut text);
    plan.slots(record);
    assert!(std::str::from_utf8(&text).is_ok(), "{}", String::from_utf8_lossy(&text));
});

fn difference(one: &[u8], other: &[u8]) -> String {
    let same = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    let [one, other] = [one, other].map(|text| String::from_utf8_lossy(&text[same..]));
    format!("same in {same} bytes, then {one:?} and {other:?}")
}
