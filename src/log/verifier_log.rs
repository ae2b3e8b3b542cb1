//! Recognizes verifier logs among libbpf's messages, and shortens them.

/// Maximum size of one message. A verifier log can have many megabytes.
const MESSAGE_LIMIT: usize = 1 << 20;

/// Whether a message is a verifier log: only these have several lines.
pub(super) fn is_verifier_log(message: &str) -> bool {
    message.trim_end().contains('\n')
}

/// Returns the first line and the end of a long message. The verifier's objection is at the end of its log.
pub(super) fn shortened(message: &str) -> (&str, &str) {
    if message.len() <= MESSAGE_LIMIT {
        return (message, "");
    }
    let head = message.find('\n').map_or(0, |end| end + 1);
    let mut start = (message.len() - MESSAGE_LIMIT).max(head);
    while !message.is_char_boundary(start) {
        start += 1;
    }
    (&message[..head], &message[start..])
}
