//! What a register or a slot of the stack can hold, as far as it is followed.

/// Constants that are told apart in a register.
const MAX_CONSTANTS: usize = 8;

/// A few constants, in order.
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

    /// Those of both; `None` if they are too many.
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

/// What a register can hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Value {
    /// Nothing has been found yet.
    #[default]
    None,
    /// One of these.
    Constants(Constants),
    /// A pointer to memory of the program: values of maps, records, the stack of a caller.
    Own,
    /// A pointer to the function's own stack, so many bytes from its top where that is known.
    Stack(Option<i16>),
    /// The pointer to the program's context.
    Context,
    /// A number, or a pointer to what is not the program's: packets, structures of the kernel.
    Foreign,
    /// Anything.
    Any,
}

impl Value {
    /// A constant.
    pub fn constant(value: i32) -> Value {
        Value::Constants(Constants::one(value))
    }

    /// Whether it is a pointer to what is the program's own.
    pub fn is_pointer(self) -> bool {
        matches!(self, Value::Own | Value::Stack(_) | Value::Context)
    }

    /// What it can hold if it holds one or the other.
    pub fn joined(self, other: Value) -> Value {
        match (self, other) {
            (Value::None, it) | (it, Value::None) => it,
            (one, other) if one == other => one,
            (Value::Constants(one), Value::Constants(other)) => {
                one.join(&other).map_or(Value::Foreign, Value::Constants)
            }
            (Value::Stack(_), Value::Stack(_)) => Value::Stack(None),
            // A pointer or null, which nothing is written through.
            (Value::Constants(zero), it) | (it, Value::Constants(zero))
                if zero.items() == [0] && it.is_pointer() =>
            {
                it
            }
            (Value::Constants(_), Value::Foreign) | (Value::Foreign, Value::Constants(_)) => Value::Foreign,
            _ => Value::Any,
        }
    }

    /// As the result of a function: all pointers are alike.
    pub fn as_result(self) -> Value {
        match self {
            Value::Constants(_) => self,
            _ => Value::Any,
        }
    }

    /// As an argument: what the caller has on its stack is not on the callee's.
    pub fn as_argument(self) -> Value {
        match self {
            Value::Stack(_) => Value::Own,
            it => it,
        }
    }
}
