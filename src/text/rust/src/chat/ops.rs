//! The operators of the template language, with Python's semantics and bounded cost.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

use super::budget::{fail, Budget};
use super::pyfmt::str_of;

fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

fn unsupported(op: &str, a: &Value, b: &Value) -> Error {
    let kind = if a.is_undefined() || b.is_undefined() {
        ErrorKind::UndefinedError
    } else {
        ErrorKind::InvalidOperation
    };
    Error::new(kind, format!("unsupported operands for {op}: {} and {}", a.kind(), b.kind()))
}

/// A pair of operands of an arithmetic operator.
enum Numbers {
    Int(i128, i128),
    Float(f64, f64),
}

fn numbers(op: &str, a: &Value, b: &Value) -> Result<Numbers, Error> {
    let numeric = |v: &Value| matches!(v.kind(), ValueKind::Number | ValueKind::Bool);
    if !numeric(a) || !numeric(b) {
        return Err(unsupported(op, a, b));
    }
    let int = |v: &Value| match v.kind() {
        ValueKind::Bool => Some(i128::from(v.is_true())),
        _ if v.is_integer() => i128::try_from(v.clone()).ok(),
        _ => None,
    };
    match (int(a), int(b)) {
        (Some(a), Some(b)) => Ok(Numbers::Int(a, b)),
        (x, y) => {
            let float = |v: &Value, i: Option<i128>| match i {
                Some(i) => Ok(i as f64),
                None => f64::try_from(v.clone()),
            };
            Ok(Numbers::Float(float(a, x)?, float(b, y)?))
        }
    }
}

fn integer(op: &str, value: Option<i128>) -> Result<Value, Error> {
    let value = value.ok_or_else(|| fail(format!("integer overflow in {op}")))?;
    Ok(i64::try_from(value).map_or_else(|_| Value::from(value), Value::from))
}

pub fn add(budget: &Budget, a: &Value, b: &Value) -> Result<Value, Error> {
    if let (Some(x), Some(y)) = (a.as_str(), b.as_str()) {
        return join(budget, x, y);
    }
    if is_list(a) && is_list(b) {
        budget.slots(a.len().unwrap_or(0).saturating_add(b.len().unwrap_or(0)))?;
        return Ok(Value::from(a.try_iter()?.chain(b.try_iter()?).collect::<Vec<_>>()));
    }
    match numbers("+", a, b)? {
        Numbers::Int(a, b) => integer("+", a.checked_add(b)),
        Numbers::Float(a, b) => Ok(Value::from(a + b)),
    }
}

pub fn mul(budget: &Budget, a: &Value, b: &Value) -> Result<Value, Error> {
    let repeated = |v: &Value| v.as_str().is_some() || is_list(v);
    let (what, count) = match (repeated(a), repeated(b)) {
        (true, false) => (a, b),
        (false, true) => (b, a),
        _ => {
            return match numbers("*", a, b)? {
                Numbers::Int(a, b) => integer("*", a.checked_mul(b)),
                Numbers::Float(a, b) => Ok(Value::from(a * b)),
            }
        }
    };
    if !count.is_integer() {
        return Err(unsupported("*", a, b));
    }
    let count = i64::try_from(count.clone())?.max(0) as usize;
    if let Some(s) = what.as_str() {
        budget.memory((s.len() as u64).saturating_mul(count as u64))?;
        return Ok(Value::from(s.repeat(count)));
    }
    let items: Vec<Value> = what.try_iter()?.collect();
    budget.slots(items.len().saturating_mul(count))?;
    let copies = std::iter::repeat_n(items, count).flatten();
    Ok(Value::from(copies.collect::<Vec<_>>()))
}

/// Python's `%`: the sign of the divisor; string formatting goes through the `format` filter.
pub fn modulo(a: &Value, b: &Value) -> Result<Value, Error> {
    match numbers("%", a, b)? {
        Numbers::Int(_, 0) => Err(fail("modulo by zero")),
        Numbers::Int(a, b) => integer(
            "%",
            a.checked_rem(b).map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r }),
        ),
        Numbers::Float(_, 0.0) => Err(fail("modulo by zero")),
        Numbers::Float(a, b) => {
            let r = a % b;
            Ok(Value::from(if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }))
        }
    }
}

pub fn div(a: &Value, b: &Value) -> Result<Value, Error> {
    let (a, b) = match numbers("/", a, b)? {
        Numbers::Int(a, b) => (a as f64, b as f64),
        Numbers::Float(a, b) => (a, b),
    };
    if b == 0.0 {
        return Err(fail("division by zero"));
    }
    Ok(Value::from(a / b))
}

pub fn floor_div(a: &Value, b: &Value) -> Result<Value, Error> {
    match numbers("//", a, b)? {
        Numbers::Int(_, 0) => Err(fail("division by zero")),
        Numbers::Int(a, b) => integer(
            "//",
            a.checked_div(b).map(|q| if a % b != 0 && (a < 0) != (b < 0) { q - 1 } else { q }),
        ),
        Numbers::Float(_, 0.0) => Err(fail("division by zero")),
        Numbers::Float(a, b) => Ok(Value::from((a / b).floor())),
    }
}

pub fn concat(budget: &Budget, a: &Value, b: &Value) -> Result<Value, Error> {
    let text = |v: &Value| -> Result<String, Error> {
        budget.deep(v)?;
        Ok(str_of(v))
    };
    join(budget, &text(a)?, &text(b)?)
}

fn join(budget: &Budget, a: &str, b: &str) -> Result<Value, Error> {
    budget.memory((a.len() as u64).saturating_add(b.len() as u64))?;
    Ok(Value::from([a, b].concat()))
}

/// Charges a comparison: scalars and strings by the shorter one, containers in full.
pub fn charge_compare(budget: &Budget, a: &Value, b: &Value) -> Result<(), Error> {
    if let (Some(x), Some(y)) = (a.as_str(), b.as_str()) {
        return budget.work(x.len().min(y.len()) as u64);
    }
    if a.as_object().is_some() && b.as_object().is_some() {
        budget.deep(a)?;
        return budget.deep(b);
    }
    Ok(())
}

/// `needle in hay`
pub fn contains(budget: &Budget, needle: &Value, hay: &Value) -> Result<bool, Error> {
    match hay.kind() {
        ValueKind::Undefined => Ok(false),
        ValueKind::String => match (hay.as_str(), needle.as_str()) {
            (Some(hay), Some(needle)) => {
                budget.work((hay.len() + needle.len()) as u64)?;
                Ok(hay.contains(needle))
            }
            _ => Err(unsupported("in", needle, hay)),
        },
        ValueKind::Seq | ValueKind::Iterable => {
            for item in hay.try_iter()? {
                budget.shallow(&Value::UNDEFINED)?;
                charge_compare(budget, needle, &item)?;
                if item == *needle {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        ValueKind::Map => {
            budget.deep(needle)?;
            Ok(hay.as_object().is_some_and(|o| o.get_value(needle).is_some()))
        }
        _ => Err(unsupported("in", needle, hay)),
    }
}

pub fn get_item(budget: &Budget, value: &Value, key: &Value) -> Result<Value, Error> {
    if value.as_str().is_some() {
        budget.shallow(value)?;
    }
    budget.shallow(key)?;
    value.get_item(key)
}

/// `value[start:stop:step]`
pub fn slice(budget: &Budget, args: &[Value; 4]) -> Result<Value, Error> {
    let [value, start, stop, step] = args;
    let bound = |v: &Value| -> Result<Option<i64>, Error> {
        if v.is_none() {
            Ok(None)
        } else {
            i64::try_from(v.clone()).map(Some)
        }
    };
    let step = bound(step)?.unwrap_or(1);
    if step == 0 {
        return Err(fail("slice step can't be zero"));
    }
    if let Some(s) = value.as_str() {
        budget.work(s.len() as u64)?;
        budget.memory(4 * s.len() as u64)?;
        let chars: Vec<char> = s.chars().collect();
        let picked = indices(chars.len(), bound(start)?, bound(stop)?, step);
        return Ok(Value::from(picked.map(|i| chars[i]).collect::<String>()));
    }
    if !is_list(value) {
        return Err(Error::new(
            if value.is_undefined() {
                ErrorKind::UndefinedError
            } else {
                ErrorKind::InvalidOperation
            },
            format!("a value of type {} can't be sliced", value.kind()),
        ));
    }
    budget.slots(value.len().unwrap_or(0))?;
    let items: Vec<Value> = value.try_iter()?.collect();
    let picked = indices(items.len(), bound(start)?, bound(stop)?, step);
    Ok(Value::from(picked.map(|i| items[i].clone()).collect::<Vec<_>>()))
}

/// The indices of a Python slice of a sequence of `len` items.
fn indices(
    len: usize,
    start: Option<i64>,
    stop: Option<i64>,
    step: i64,
) -> impl Iterator<Item = usize> {
    let len = len as i64;
    let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let clamp = |i: i64| (if i < 0 { i.saturating_add(len) } else { i }).clamp(low, high);
    let (first, last) = if step > 0 { (low, high) } else { (high, low) };
    let first = start.map_or(first, clamp);
    let last = stop.map_or(last, clamp);
    let more = move |i: &i64| if step > 0 { *i < last } else { *i > last };
    std::iter::successors(Some(first), move |i| i.checked_add(step))
        .take_while(more)
        .map(|i| i as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_follow_python() {
        let picked = |start, stop, step| indices(5, start, stop, step).collect::<Vec<_>>();
        assert_eq!(picked(None, None, -1), [4, 3, 2, 1, 0]);
        assert_eq!(picked(Some(1), None, 1), [1, 2, 3, 4]);
        assert_eq!(picked(Some(-2), None, 1), [3, 4]);
        assert_eq!(picked(None, Some(-1), 2), [0, 2]);
        assert_eq!(picked(Some(10), Some(0), -2), [4, 2]);
        assert_eq!(picked(Some(3), Some(1), 1), Vec::<usize>::new());
        assert_eq!(picked(Some(i64::MIN), Some(i64::MAX), i64::MAX), [0]);
    }

    #[test]
    fn division_follows_python() {
        for (a, b, q, r) in [(7, 2, 3, 1), (-7, 2, -4, 1), (7, -2, -4, -1), (-7, -2, 3, -1)] {
            let (a, b) = (Value::from(a), Value::from(b));
            assert_eq!(floor_div(&a, &b).unwrap(), Value::from(q));
            assert_eq!(modulo(&a, &b).unwrap(), Value::from(r));
        }
    }
}
