//! What ecli and the process that reads symbols say to each other: one message each way, of bounded size, as numbers and
//! texts with their lengths in front.
//!
//! Neither side believes the other. What is too short, too long, or of the wrong count is no message.

/// Bytes of the largest message.
pub const MAX_MESSAGE: usize = 128 << 10;

/// Addresses or offsets of one question.
pub const MAX_NUMBERS: usize = 128;

/// Bytes of the longest name; longer ones are cut.
pub const MAX_NAME: usize = 512;

/// Bytes of the longest path; what lies at a longer one has no name.
const MAX_PATH: usize = 4096;

/// What is asked for. The file of all but `Vdso` comes with the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Names of addresses of the kernel; its kallsyms is sent once.
    Kernel = 1,
    /// Where in a process addresses are, by its maps.
    Places,
    /// Names of offsets in an ELF file.
    File,
    /// Names of addresses, by a perf map.
    PerfMap,
    /// Names of offsets in the code that the kernel gives to each process.
    Vdso,
}

const TASKS: [Task; 5] = [Task::Kernel, Task::Places, Task::File, Task::PerfMap, Task::Vdso];

/// A question.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub task: Task,
    pub numbers: Vec<u64>,
}

/// Where something mapped comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    File = 1,
    Vdso,
    Anonymous,
}

/// What is mapped at an address.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    pub backing: Backing,
    pub start: u64,
    pub end: u64,
    /// Of the address in the file.
    pub offset: u64,
    pub path: String,
}

impl Place {
    /// Whether another address is in the same mapping, or another that is named in the same way.
    pub fn is_with(&self, other: &Place) -> bool {
        let is_alike = self.backing == other.backing && self.backing != Backing::File;
        is_alike || (self.start, self.end) == (other.start, other.end)
    }
}

/// A function, and where in it an address is.
#[derive(Debug, PartialEq, Eq)]
pub struct Name {
    pub text: String,
    pub offset: u64,
}

impl Request {
    /// As a message.
    pub fn encode(&self) -> Vec<u8> {
        let numbers = self.numbers.iter().flat_map(|number| number.to_le_bytes());
        std::iter::once(self.task as u8).chain(numbers).collect()
    }

    /// What a message means.
    pub fn decode(mut bytes: &[u8]) -> Option<Request> {
        let task = take(&mut bytes)?;
        let task = TASKS.into_iter().find(|known| *known as u8 == task)?;
        let numbers = bytes.chunks(8).map(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
        let numbers = numbers.collect::<Option<Vec<u64>>>()?;
        (numbers.len() <= MAX_NUMBERS).then_some(Request { task, numbers })
    }
}

/// The answer with places, in the order of the addresses. What does not fit the message has none.
pub fn encode_places(places: &[Option<Place>]) -> Vec<u8> {
    let mut out = Vec::new();
    for place in places {
        let fits = |place: &&Place| {
            place.path.len() <= MAX_PATH && out.len() + place.path.len() + 64 + places.len() < MAX_MESSAGE
        };
        let Some(place) = place.as_ref().filter(fits) else {
            out.push(0);
            continue;
        };
        out.push(place.backing as u8);
        for number in [place.start, place.end, place.offset] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        text(&place.path, &mut out);
    }
    out
}

/// The places of so many addresses.
pub fn decode_places(mut bytes: &[u8], count: usize) -> Option<Vec<Option<Place>>> {
    let mut places = Vec::with_capacity(count);
    for _ in 0..count {
        let backing = match take(&mut bytes)? {
            0 => {
                places.push(None);
                continue;
            }
            1 => Backing::File,
            2 => Backing::Vdso,
            3 => Backing::Anonymous,
            _ => return None,
        };
        let (start, end, offset) = (number(&mut bytes)?, number(&mut bytes)?, number(&mut bytes)?);
        let path = take_text(&mut bytes, MAX_PATH)?;
        places.push((start < end).then_some(Place { backing, start, end, offset, path }));
    }
    bytes.is_empty().then_some(places)
}

/// The answer with names, in the order of the addresses.
pub fn encode_names(names: &[Option<Name>]) -> Vec<u8> {
    let mut out = Vec::new();
    for name in names {
        let Some(name) = name else {
            out.push(0);
            continue;
        };
        out.push(1);
        out.extend_from_slice(&name.offset.to_le_bytes());
        let end = (0..=MAX_NAME.min(name.text.len())).rev().find(|end| name.text.is_char_boundary(*end));
        text(&name.text[..end.unwrap_or(0)], &mut out);
    }
    out
}

/// The names of so many addresses.
pub fn decode_names(mut bytes: &[u8], count: usize) -> Option<Vec<Option<Name>>> {
    let mut names = Vec::with_capacity(count);
    for _ in 0..count {
        names.push(match take(&mut bytes)? {
            0 => None,
            1 => {
                let offset = number(&mut bytes)?;
                Some(Name { offset, text: take_text(&mut bytes, MAX_NAME)? })
            }
            _ => return None,
        });
    }
    bytes.is_empty().then_some(names)
}

fn text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn take(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*number))
}

fn take_text(bytes: &mut &[u8], longest: usize) -> Option<String> {
    let (len, rest) = bytes.split_first_chunk()?;
    let len = usize::from(u16::from_le_bytes(*len));
    let text = rest.get(..len).filter(|_| len <= longest)?;
    *bytes = &rest[len..];
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Vec<Option<Place>> {
        let place = |backing, path: &str| {
            Some(Place { backing, start: 4096, end: 8192, offset: 12, path: path.into() })
        };
        vec![
            place(Backing::File, "/usr/bin/a b"),
            None,
            place(Backing::Anonymous, ""),
            place(Backing::Vdso, "[vdso]"),
        ]
    }

    fn names() -> Vec<Option<Name>> {
        vec![
            None,
            Some(Name { text: "main".into(), offset: 17 }),
            Some(Name { text: String::new(), offset: u64::MAX }),
        ]
    }

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let request = Request { task: Task::PerfMap, numbers: vec![1, u64::MAX] };
        assert_eq!(Request::decode(&request.encode()), Some(request));
        assert_eq!(decode_places(&encode_places(&places()), 4), Some(places()));
        assert_eq!(decode_names(&encode_names(&names()), 3), Some(names()));
        let long = [Some(Name { text: "é".repeat(MAX_NAME), offset: 0 })];
        let cut = decode_names(&encode_names(&long), 1).expect("it is cut");
        assert_eq!(cut[0].as_ref().map(|name| name.text.len()), Some(MAX_NAME));
    }

    #[test]
    fn the_largest_answers_fit_a_message() {
        let path = format!("/{}", "a".repeat(MAX_PATH - 1));
        let place =
            || Some(Place { backing: Backing::File, start: 1, end: 2, offset: 0, path: path.clone() });
        let places: Vec<_> = (0..MAX_NUMBERS).map(|_| place()).collect();
        let message = encode_places(&places);
        assert!(message.len() <= MAX_MESSAGE);
        let back = decode_places(&message, MAX_NUMBERS).expect("a message");
        assert!(back[0].is_some() && back[MAX_NUMBERS - 1].is_none());
        let names: Vec<_> =
            (0..MAX_NUMBERS).map(|_| Some(Name { text: "n".repeat(2 * MAX_NAME), offset: 1 })).collect();
        assert!(encode_names(&names).len() <= MAX_MESSAGE);
    }

    #[test]
    fn what_is_cut_changed_or_of_another_count_is_no_message() {
        let (places, names) = (encode_places(&places()), encode_names(&names()));
        for end in 0..places.len() {
            assert_eq!(decode_places(&places[..end], 4), None, "{end}");
        }
        for end in 0..names.len() {
            assert_eq!(decode_names(&names[..end], 3), None, "{end}");
        }
        for count in [0, 3, 5, usize::from(u16::MAX)] {
            assert_eq!(decode_places(&places, count), None, "{count}");
            assert_eq!(decode_names(&places, count), None, "{count}");
        }
        for at in 0..places.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = places.clone();
                changed[at] = value;
                // Whatever it means: it ends, and nothing is taken from beyond it.
                let _ = (decode_places(&changed, 4), decode_names(&changed, 4), Request::decode(&changed));
            }
        }
    }
}
