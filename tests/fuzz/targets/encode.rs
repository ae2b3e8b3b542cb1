//! JSON to bytes with random types: JSON of a record can be set and reads back the same, and any other JSON
//! is set or refused.
#![no_main]

use eunomia::render::{Clock, Plan};
use eunomia::types::{Type, encode, parse_text};
use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    let Ok(Some(made)) = fuzz::a_type(&mut input) else { return };
    let (ty, Ok(plan)) = (&made.ty, Plan::new(&made.ty)) else { return };
    let is_sound = made.has_names && made.is_fixed;
    if ty.size > 1 << 16 {
        return;
    }
    let record = input.bytes(ty.size.min(input.len())).unwrap_or_default();
    let shown = json(&plan, record);
    if let Some(bytes) = set(ty, &shown).filter(|_| is_sound) {
        let again = json(&plan, &bytes);
        assert_eq!(set(ty, &again).as_ref(), Some(&bytes), "{}", String::from_utf8_lossy(&again));
        if made.is_plain && !made.is_formatted {
            assert_eq!(String::from_utf8_lossy(&shown), String::from_utf8_lossy(&again));
        }
    }
    let rest = input.take_rest();
    if let Some(bytes) = set(ty, rest).filter(|_| is_sound) {
        let shown = json(&plan, &bytes);
        if let Some(again) = set(ty, &shown) {
            assert_eq!(json(&plan, &again), shown);
        }
    }
    if let Ok(value) =
        std::str::from_utf8(rest).map_err(drop).and_then(|text| parse_text(ty, text).map_err(drop))
    {
        let _ = encode(ty, &value, &mut vec![0; ty.size]);
    }
});

fn json(plan: &Plan, record: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    plan.json(record, &Clock::new(|| 0), &mut out);
    out
}

fn set(ty: &Type, text: &[u8]) -> Option<Vec<u8>> {
    let value: Value = serde_json::from_slice(text).ok()?;
    let mut bytes = vec![0; ty.size];
    encode(ty, &value, &mut bytes).ok().map(|()| bytes)
}
