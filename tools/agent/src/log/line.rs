//! One line of a log: its bytes in memory, and its parts for readers.

/// Size of the header of a line: number (8), time (4), length of the text (4), kind (1), length of the source (2), length of the record (4),
/// number of the shape (4), and 5 zeros. The source, the text and the record follow.
pub const HEADER: usize = 32;

/// The kind of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// An event as JSON.
    Json,
    /// An event or output of the program as text.
    Text,
    /// The number of records that the kernel lost.
    Lost,
    /// An unknown number of events is missing here, because the programs were not attached or their events are gone. The text is
    /// `loader`.
    Unknown,
}

const KINDS: [LineKind; 4] = [LineKind::Json, LineKind::Text, LineKind::Lost, LineKind::Unknown];

/// The header of a line.
pub struct Line {
    pub number: u64,
    /// Seconds since 1970.
    pub time: u32,
    pub kind: LineKind,
    pub source_len: usize,
    pub text_len: usize,
    pub record_len: usize,
    pub shape: u32,
}

/// The content of a line.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// Its text.
    pub text: &'a [u8],
    /// The record that the text was made of, for filters; may be empty.
    pub record: &'a [u8],
    /// The number of the shape of the record.
    pub shape: u32,
}

impl<'a> Content<'a> {
    /// A line without a record.
    pub fn text(text: &'a [u8]) -> Content<'a> {
        Content { text, record: &[], shape: 0 }
    }
}

impl Line {
    /// The size of the whole line in bytes.
    pub fn size(&self) -> usize {
        HEADER + self.source_len + self.text_len + self.record_len
    }

    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&self.number.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.time.to_le_bytes());
        bytes[12..16].copy_from_slice(&(self.text_len as u32).to_le_bytes());
        bytes[16] = self.kind as u8;
        bytes[17..19].copy_from_slice(&(self.source_len as u16).to_le_bytes());
        bytes[19..23].copy_from_slice(&(self.record_len as u32).to_le_bytes());
        bytes[23..27].copy_from_slice(&self.shape.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8; HEADER]) -> Option<Line> {
        let (number, rest) = bytes.split_first_chunk()?;
        let (time, rest) = rest.split_first_chunk()?;
        let (text_len, rest) = rest.split_first_chunk()?;
        let (kind, rest) = rest.split_first()?;
        let (source_len, rest) = rest.split_first_chunk()?;
        let (record_len, rest) = rest.split_first_chunk()?;
        let (shape, zeros) = rest.split_first_chunk()?;
        let kind = *KINDS.get(usize::from(*kind))?;
        zeros.iter().all(|byte| *byte == 0).then_some(Line {
            number: u64::from_le_bytes(*number),
            time: u32::from_le_bytes(*time),
            kind,
            source_len: u16::from_le_bytes(*source_len).into(),
            text_len: u32::from_le_bytes(*text_len) as usize,
            record_len: u32::from_le_bytes(*record_len) as usize,
            shape: u32::from_le_bytes(*shape),
        })
    }
}

/// A line as readers get it.
#[derive(Debug)]
pub struct LineRef<'a> {
    /// Its position: the number of lines before it.
    pub position: u64,
    /// The time when it was added, in seconds since 1970.
    pub time: u32,
    /// Its kind.
    pub kind: LineKind,
    /// The map that it comes from.
    pub source: Option<&'a str>,
    /// Its text, without a newline at its end.
    pub text: &'a [u8],
    /// The record that the text was made of; may be empty.
    pub record: &'a [u8],
    /// The number of the shape of the record.
    pub shape: u32,
}

/// Several lines.
#[derive(Debug)]
pub struct Lines {
    bytes: Vec<u8>,
    /// The position after the last one.
    pub end: u64,
}

impl Lines {
    pub(super) fn new(bytes: Vec<u8>, end: u64) -> Lines {
        Lines { bytes, end }
    }

    /// The lines.
    pub fn iter(&self) -> impl Iterator<Item = LineRef<'_>> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (header, after) = rest.split_first_chunk()?;
            let line = Line::decode(header)?;
            let (source, after) = after.split_at_checked(line.source_len)?;
            let (text, after) = after.split_at_checked(line.text_len)?;
            let (record, after) = after.split_at_checked(line.record_len)?;
            rest = after;
            let source = std::str::from_utf8(source).ok().filter(|source| !source.is_empty());
            let Line { number: position, time, kind, shape, .. } = line;
            Some(LineRef { position, time, kind, source, text, record, shape })
        })
    }
}
