//! Limits of one rendering, and the bounded form that every value is brought into.
//!
//! Fuel bounds the number of instructions but neither what one of them may cost nor the memory
//! that a chain of them may build. So the bytes read and the bytes created are counted as well.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// Deepest nesting of a value; JSON arguments nest up to 127 levels.
pub const MAX_DEPTH: usize = 160;
const SLOT: u64 = 24;
const NODE: u64 = 16;

pub struct Budget {
    work: AtomicU64,
    memory: AtomicU64,
}

pub type Shared = Arc<Budget>;

/// The message of a limit; `render` tells it from other failures by this prefix.
pub const LIMIT_PREFIX: &str = "limit reached: ";

pub fn limit(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("{LIMIT_PREFIX}{what}"))
}

pub fn fail(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

impl Budget {
    pub fn new(work: u64, memory: u64) -> Shared {
        Arc::new(Self { work: AtomicU64::new(work), memory: AtomicU64::new(memory) })
    }

    /// Charges bytes or nodes that an operation reads.
    pub fn work(&self, amount: u64) -> Result<(), Error> {
        take(&self.work, amount).ok_or_else(|| limit("the template does too much work"))
    }

    /// Charges bytes that an operation creates.
    pub fn memory(&self, amount: u64) -> Result<(), Error> {
        take(&self.memory, amount).ok_or_else(|| limit("the template uses too much memory"))
    }

    /// Charges the creation of `count` list slots.
    pub fn slots(&self, count: usize) -> Result<(), Error> {
        self.memory(SLOT.saturating_mul(count as u64))
    }

    /// Charges one level of a value.
    pub fn shallow(&self, value: &Value) -> Result<(), Error> {
        match value.as_str() {
            Some(s) => self.work(s.len() as u64),
            None => self.work(NODE),
        }
    }

    /// Charges a value and everything in it, as printing or comparing it reads it.
    pub fn deep(&self, value: &Value) -> Result<(), Error> {
        self.deep_at(value, 0)
    }

    fn deep_at(&self, value: &Value, depth: usize) -> Result<(), Error> {
        self.shallow(value)?;
        if depth > MAX_DEPTH {
            return Err(limit("a value is nested too deeply"));
        }
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => {
                for item in value.try_iter()? {
                    self.deep_at(&item, depth + 1)?;
                }
            }
            ValueKind::Map => {
                for (key, item) in pairs(value) {
                    self.deep_at(&key, depth + 1)?;
                    self.deep_at(&item, depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Brings a value that an instruction made into bounded form: lists are vectors instead of
    /// lazy chains, no value is deeper than MAX_DEPTH, and no namespace lies inside another value
    /// (so values are never cyclic).
    pub fn settle(&self, value: Value) -> Result<Value, Error> {
        match value.as_str() {
            Some(s) => self.memory(s.len() as u64).map(|()| value),
            None => Ok(self.settle_at(&value, 0)?.unwrap_or(value)),
        }
    }

    /// Returns the replacement of a value that is not in bounded form.
    fn settle_at(&self, value: &Value, depth: usize) -> Result<Option<Value>, Error> {
        self.work(NODE)?;
        if depth > MAX_DEPTH {
            return Err(limit("a value is nested too deeply"));
        }
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => {
                if let Some(items) = value.downcast_object_ref::<Vec<Value>>() {
                    return self.settle_items(items, depth);
                }
                let mut items = Vec::new();
                for item in value.try_iter()? {
                    self.slots(1)?;
                    items.push(self.settle_at(&item, depth + 1)?.unwrap_or(item));
                }
                Ok(Some(Value::from(items)))
            }
            ValueKind::Map if is_namespace(value) && depth > 0 => {
                Err(fail("a namespace can't be stored inside another value"))
            }
            ValueKind::Map if is_data_map(value) => self.settle_map(value, depth),
            _ => Ok(None),
        }
    }

    fn settle_items(&self, items: &[Value], depth: usize) -> Result<Option<Value>, Error> {
        let mut changed: Option<Vec<Value>> = None;
        for (i, item) in items.iter().enumerate() {
            if let Some(new) = self.settle_at(item, depth + 1)? {
                if changed.is_none() {
                    self.slots(items.len())?;
                }
                changed.get_or_insert_with(|| items.to_vec())[i] = new;
            }
        }
        Ok(changed.map(Value::from))
    }

    fn settle_map(&self, value: &Value, depth: usize) -> Result<Option<Value>, Error> {
        let mut changed = false;
        let mut items = Vec::new();
        for (key, item) in pairs(value) {
            let new = self.settle_at(&item, depth + 1)?;
            changed |= new.is_some();
            items.push((key, new.unwrap_or(item)));
        }
        if !changed {
            return Ok(None);
        }
        if is_namespace(value) {
            return Err(fail("a namespace holds lists and other data only"));
        }
        self.slots(3 * items.len())?;
        Ok(Some(Value::from_iter(items)))
    }
}

fn take(counter: &AtomicU64, amount: u64) -> Option<()> {
    let left = counter.load(Ordering::Relaxed).checked_sub(amount);
    counter.store(left.unwrap_or(0), Ordering::Relaxed);
    left.map(|_| ())
}

pub fn pairs(value: &Value) -> impl Iterator<Item = (Value, Value)> {
    value.as_object().and_then(|o| o.try_iter_pairs()).into_iter().flatten()
}

pub fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|o| o.type_name().ends_with("::Namespace"))
}

/// True for dictionaries and namespaces, false for macros, loops and other engine objects.
pub fn is_data_map(value: &Value) -> bool {
    let Some(object) = value.as_object() else { return false };
    let name = object.type_name();
    value.kind() == ValueKind::Map
        && (is_namespace(value) || value.is_kwargs() || name.contains("Map<"))
}
