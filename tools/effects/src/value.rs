//! The abstract values of registers and stack slots.

/// Limit on the distinct constants in a register.
const MAX_CONSTANTS: usize = 8;

/// A sorted set of constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constants {
    len: u8,
    items: [i32; MAX_CONSTANTS],
}

impl Constants {
    fn one(value: i32) -> Constants {
        let mut items = [0; MAX_CONSTANTS];
        items[0] = value;
        Constants { len: 1, items }
    }

    /// The constants.
    pub fn items(&self) -> &[i32] {
        &self.items[..usize::from(self.len)]
    }

    /// The union; `None` if it has too many constants.
    fn join(mut self, other: &Constants) -> Option<Constants> {
        for value in other.items() {
            if let Err(at) = self.items().binary_search(value) {
                let len = usize::from(self.len);
                if len == MAX_CONSTANTS {
                    return None;
                }
                self.items.copy_within(at..len, at + 1);
                self.items[at] = *value;
                self.len += 1;
            }
        }
        Some(self)
    }
}

/// The possible values of a register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Value {
    /// No value found yet.
    #[default]
    None,
    /// One of these.
    Constants(Constants),
    /// A pointer to memory of the program: values of maps, records, the stack of a caller.
    Own,
    /// A pointer to the stack of the function, with the offset from its top if known.
    Stack(Option<i16>),
    /// The context pointer.
    Context,
    /// A number, or a pointer to memory outside of the program: packets, kernel structures.
    Foreign,
    /// Anything.
    Any,
}

impl Value {
    /// A constant.
    pub fn constant(value: i32) -> Value {
        Value::Constants(Constants::one(value))
    }

    /// Whether it is a pointer to memory of the program.
    pub fn is_pointer(self) -> bool {
        matches!(self, Value::Own | Value::Stack(_) | Value::Context)
    }

    /// The union of both.
    pub fn joined(self, other: Value) -> Value {
        match (self, other) {
            (Value::None, it) | (it, Value::None) => it,
            (one, other) if one == other => one,
            (Value::Constants(one), Value::Constants(other)) => {
                one.join(&other).map_or(Value::Foreign, Value::Constants)
            }
            (Value::Stack(_), Value::Stack(_)) => Value::Stack(None),
            // A pointer or null; the kernel refuses writes through null.
            (Value::Constants(zero), it) | (it, Value::Constants(zero))
                if zero.items() == [0] && it.is_pointer() =>
            {
                it
            }
            (Value::Constants(_), Value::Foreign) | (Value::Foreign, Value::Constants(_)) => Value::Foreign,
            _ => Value::Any,
        }
    }

    /// The value as the result of a program: pointers are not distinguished.
    pub fn as_result(self) -> Value {
        match self {
            Value::Constants(_) => self,
            _ => Value::Any,
        }
    }

    /// The value as an argument: a pointer to the caller's stack is not a pointer to the callee's stack.
    pub fn as_argument(self) -> Value {
        match self {
            Value::Stack(_) => Value::Own,
            it => it,
        }
    }
}
