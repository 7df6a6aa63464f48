//! Functions, filters, tests and methods of chat templates, and the `$` functions that `guard`
//! calls. What minijinja provides in bounded form and with Python's result is left to it.

use std::sync::{Arc, Mutex};

use minijinja::value::{from_args, Kwargs, Rest, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};

use super::budget::{fail, is_data_map, is_namespace, limit, pairs, Budget, Shared};
use super::pyfmt::{str_of, to_json, JsonStyle};
use super::{guard, ops, strftime};

/// Largest count, width or indentation that a filter accepts.
const MAX_COUNT: i64 = 10_000;

/// What one rendering shares with its environment.
pub struct Session {
    pub budget: Shared,
    /// The message of `raise_exception`.
    pub raised: Mutex<Option<String>>,
    /// Local civil time as seconds since 1970.
    pub now: i64,
}

pub fn install(env: &mut Environment, session: &Arc<Session>) {
    env.remove_filter("chain");
    env.remove_filter("zip");
    env.remove_filter("pprint");
    env.remove_global("debug");
    install_guards(env, &session.budget);
    install_functions(env, session);
    install_filters(env, &session.budget);
    install_tests(env);
    let budget = session.budget.clone();
    env.set_unknown_method_callback(move |state, value, method, args| {
        call_method(&budget, state, value, method, args)
    });
    let budget = session.budget.clone();
    env.set_formatter(move |out, _, value| {
        let print = |s: &str, out: &mut minijinja::Output| {
            budget.memory(s.len() as u64)?;
            out.write_str(s).map_err(Error::from)
        };
        match value.as_str() {
            Some(s) => print(s, out),
            None => {
                budget.deep(value)?;
                print(&str_of(value), out)
            }
        }
    });
}

type Args = Rest<Value>;

fn install_guards(env: &mut Environment, budget: &Shared) {
    // Charges every argument with `f` and hands the arguments back, last one first.
    fn charge(
        env: &mut Environment,
        budget: &Shared,
        name: &'static str,
        f: impl Fn(&Budget, &[Value]) -> Result<(), Error> + Send + Sync + 'static,
    ) {
        let budget = budget.clone();
        env.add_function(name, move |mut args: Args| -> Result<Value, Error> {
            f(&budget, &args)?;
            args.reverse();
            Ok(Value::from(std::mem::take(&mut args.0)))
        });
    }
    fn binary(
        env: &mut Environment,
        budget: &Shared,
        name: &'static str,
        f: impl Fn(&Budget, &Value, &Value) -> Result<Value, Error> + Send + Sync + 'static,
    ) {
        let budget = budget.clone();
        env.add_function(name, move |a: &Value, b: &Value| f(&budget, a, b));
    }
    charge(env, budget, "$shallow", |budget, args| {
        args.iter().try_for_each(|arg| budget.shallow(arg))
    });
    charge(env, budget, "$deep", |budget, args| args.iter().try_for_each(|arg| budget.deep(arg)));
    charge(env, budget, "$compare", |budget, args| ops::charge_compare(budget, &args[0], &args[1]));
    charge(env, budget, "$explode", charge_exploding);
    charge(env, budget, "$map", |budget, args| {
        match args.get(1).and_then(Value::as_str).is_some_and(guard::explodes) {
            true => charge_exploding(budget, args),
            false => args.iter().try_for_each(|arg| budget.deep(arg)),
        }
    });
    charge(env, budget, "$setattr", |budget, args| {
        // args: the new value, the namespace.
        if is_namespace(&args[0]) || !is_data(&args[0]) {
            return Err(fail("a namespace holds strings, numbers, lists and maps only"));
        }
        budget.settle(Value::from(vec![args[0].clone()])).map(|_| ())
    });
    binary(env, budget, "$item", ops::get_item);
    binary(env, budget, "$add", ops::add);
    binary(env, budget, "$mul", ops::mul);
    binary(env, budget, "$concat", ops::concat);
    binary(env, budget, "$in", |budget, a, b| ops::contains(budget, a, b).map(Value::from));
    binary(env, budget, "$div", |_, a, b| ops::div(a, b));
    binary(env, budget, "$mod", |_, a, b| ops::modulo(a, b));
    binary(env, budget, "$floordiv", |_, a, b| ops::floor_div(a, b));
    let shared = budget.clone();
    env.add_function("$slice", move |a: Value, b: Value, c: Value, d: Value| {
        ops::slice(&shared, &[a, b, c, d])
    });
    let shared = budget.clone();
    env.add_function("$settle", move |value: Value| shared.settle(value));
}

fn is_data(value: &Value) -> bool {
    match value.kind() {
        ValueKind::Map => is_data_map(value),
        ValueKind::Plain | ValueKind::Invalid => false,
        _ => true,
    }
}

/// Charges a list slot per byte, the most that `split` and its like create.
fn charge_exploding(budget: &Budget, args: &[Value]) -> Result<(), Error> {
    fn slots(budget: &Budget, value: &Value) -> Result<(), Error> {
        match value.as_str() {
            Some(s) => budget.slots(s.len()),
            None => budget.slots(1),
        }
    }
    for arg in args {
        budget.deep(arg)?;
        slots(budget, arg)?;
        if matches!(arg.kind(), ValueKind::Seq | ValueKind::Iterable) {
            for item in arg.try_iter()? {
                slots(budget, &item)?;
            }
        }
        if arg.is_integer() && i64::try_from(arg.clone()).map_or(true, |n| n > MAX_COUNT) {
            return Err(limit("a count is too large"));
        }
    }
    Ok(())
}

fn install_functions(env: &mut Environment, session: &Arc<Session>) {
    let shared = session.clone();
    env.add_function("raise_exception", move |message: &Value| -> Result<Value, Error> {
        shared.budget.deep(message)?;
        let message = str_of(message);
        if let Ok(mut raised) = shared.raised.lock() {
            *raised = Some(message.clone());
        }
        Err(fail(message))
    });
    let shared = session.clone();
    env.add_function("strftime_now", move |format: &str| -> Result<String, Error> {
        shared.budget.memory(32 * format.len() as u64)?;
        Ok(strftime::strftime(shared.now, format))
    });
    env.add_function("dict", |args: Args| -> Result<Value, Error> {
        let (base, kwargs): (Option<Value>, Kwargs) = from_args(&args)?;
        let mut items: Vec<(Value, Value)> = base.iter().flat_map(pairs).collect();
        for key in kwargs.args() {
            items.push((Value::from(key), kwargs.peek(key)?));
        }
        Ok(Value::from_iter(items))
    });
}

fn install_filters(env: &mut Environment, budget: &Shared) {
    fn filter(
        env: &mut Environment,
        budget: &Shared,
        name: &'static str,
        f: impl Fn(&Budget, &State, &[Value]) -> Result<Value, Error> + Send + Sync + 'static,
    ) {
        let budget = budget.clone();
        env.add_filter(name, move |state: &State, args: Args| f(&budget, state, &args));
    }
    filter(env, budget, "tojson", tojson);
    filter(env, budget, "indent", indent);
    filter(env, budget, "join", |budget, _, args| {
        let (items, joiner, kwargs): (&Value, Option<&Value>, Kwargs) = from_args(args)?;
        let attribute: Option<&str> = kwargs.get("attribute")?;
        let joiner = joiner.cloned().or(kwargs.get("d")?);
        kwargs.assert_all_used()?;
        join(budget, items, &joiner.map_or(String::new(), |j| str_of(&j)), attribute)
    });
    filter(env, budget, "string", |budget, _, args| {
        let (value,): (&Value,) = from_args(args)?;
        budget.deep(value)?;
        Ok(if value.as_str().is_some() { value.clone() } else { Value::from(str_of(value)) })
    });
    filter(env, budget, "replace", |budget, _, args| {
        let (text, from, to, count): (&Value, &Value, &Value, Option<i64>) = from_args(args)?;
        budget.deep(text)?;
        replace(budget, &str_of(text), &str_of(from), &str_of(to), count)
    });
    filter(env, budget, "format", |budget, _, args| {
        check_format(budget, args.first().and_then(Value::as_str).unwrap_or_default())?;
        let args: Vec<Value> = args.iter().map(printable).collect();
        let (format, rest): (&str, &[Value]) = from_args(&args)?;
        minijinja::format_filter(minijinja::FormatStyle::Printf, format, rest).map(Value::from)
    });
    filter(env, budget, "trim", |budget, _, args| {
        let (value, chars): (&Value, Option<&str>) = from_args(args)?;
        budget.deep(value)?;
        let text = str_of(value);
        Ok(Value::from(match chars {
            Some(chars) => text.trim_matches(|c| chars.contains(c)),
            None => text.trim(),
        }))
    });
    for name in ["upper", "lower", "capitalize", "title"] {
        filter(env, budget, name, move |budget, state, args| {
            let (value,): (&Value,) = from_args(args)?;
            budget.deep(value)?;
            let text = Value::from(str_of(value));
            minijinja_contrib::pycompat::unknown_method_callback(state, &text, name, &[])
        });
    }
    filter(env, budget, "sum", |budget, _, args| {
        let (items, kwargs): (&Value, Kwargs) = from_args(args)?;
        let attribute: Option<&str> = kwargs.get("attribute")?;
        let start: Option<Value> = kwargs.get("start")?;
        kwargs.assert_all_used()?;
        items.try_iter()?.try_fold(start.unwrap_or_else(|| Value::from(0)), |sum, item| {
            let item = attribute.map_or_else(|| Ok(item.clone()), |name| item.get_attr(name))?;
            ops::add(budget, &sum, &item)
        })
    });
    filter(env, budget, "int", to_int);
    filter(env, budget, "float", |_, _, args| {
        let (value, default, kwargs): (&Value, Option<Value>, Kwargs) = from_args(args)?;
        let default = default.or(kwargs.get("default")?);
        kwargs.assert_all_used()?;
        let number = to_number(value);
        Ok(number.map_or_else(|| default.unwrap_or_else(|| Value::from(0.0)), Value::from))
    });
    for name in ["length", "count"] {
        filter(env, budget, name, |_, _, args| {
            let (value,): (&Value,) = from_args(args)?;
            match (value.is_undefined(), value.len()) {
                (true, _) => Ok(Value::from(0)),
                (_, Some(len)) => Ok(Value::from(len)),
                _ => Err(fail(format!("a value of type {} has no length", value.kind()))),
            }
        });
    }
}

/// The value as a float, where Python's `float` accepts it.
fn to_number(value: &Value) -> Option<f64> {
    match value.kind() {
        ValueKind::Number => f64::try_from(value.clone()).ok(),
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::String => value.as_str()?.trim().replace('_', "").parse().ok(),
        _ => None,
    }
}

fn to_int(_: &Budget, _: &State, args: &[Value]) -> Result<Value, Error> {
    let (value, default, base, kwargs): (&Value, Option<Value>, Option<u32>, Kwargs) =
        from_args(args)?;
    let default = default.or(kwargs.get("default")?).unwrap_or_else(|| Value::from(0));
    let base = base.or(kwargs.get("base")?).unwrap_or(10);
    kwargs.assert_all_used()?;
    if value.is_integer() {
        return Ok(value.clone());
    }
    if let Some(s) = value.as_str() {
        let digits = s.trim().replace('_', "").to_lowercase();
        let prefix = match base {
            16 => "0x",
            8 => "0o",
            2 => "0b",
            _ => "",
        };
        let digits = digits.strip_prefix(prefix).unwrap_or(&digits);
        if (2..=36).contains(&base) {
            if let Ok(n) = i64::from_str_radix(digits, base) {
                return Ok(Value::from(n));
            }
        }
    }
    match to_number(value) {
        Some(x) if x.is_finite() => Ok(Value::from(x.trunc() as i64)),
        _ => Ok(default),
    }
}

/// A copy of a printf argument that prints as in Python.
fn printable(value: &Value) -> Value {
    match value.kind() {
        ValueKind::Number | ValueKind::String => value.clone(),
        ValueKind::Map if value.is_kwargs() => value.clone(),
        _ => Value::from(str_of(value)),
    }
}

fn install_tests(env: &mut Environment) {
    let sized = |v: &Value| {
        matches!(
            v.kind(),
            ValueKind::String | ValueKind::Seq | ValueKind::Iterable | ValueKind::Undefined
        ) || (v.kind() == ValueKind::Map && is_data_map(v) && !is_namespace(v))
    };
    env.add_test("sequence", move |v: &Value| sized(v));
    env.add_test("iterable", move |v: &Value| sized(v));
    env.add_test("mapping", |v: &Value| is_data_map(v) && !is_namespace(v));
    env.add_test("number", |v: &Value| matches!(v.kind(), ValueKind::Number | ValueKind::Bool));
    env.add_test("callable", |v: &Value| v.as_object().is_some() && !is_data(v));
}

/// `tojson` as Transformers defines it: no HTML escapes, `ensure_ascii` off.
fn tojson(budget: &Budget, _: &State, args: &[Value]) -> Result<Value, Error> {
    let (value, rest): (&Value, &[Value]) = from_args(args)?;
    let (rest, kwargs): (&[Value], Kwargs) = from_args(rest)?;
    let option = |position: usize, name: &str| -> Result<Option<Value>, Error> {
        let value = match rest.get(position) {
            Some(value) => Some(value.clone()),
            None => kwargs.get::<Option<Value>>(name)?,
        };
        Ok(value.filter(|v| !v.is_none()))
    };
    let flag = |v: Option<Value>| v.is_some_and(|v| v.is_true());
    let mut style = JsonStyle {
        ensure_ascii: flag(option(0, "ensure_ascii")?),
        sort_keys: flag(option(3, "sort_keys")?),
        ..JsonStyle::default()
    };
    if let Some(indent) = option(1, "indent")? {
        style.indent = Some(match indent.as_str() {
            Some(s) if s.len() <= 64 => s.to_owned(),
            Some(_) => return Err(limit("an indentation is too large")),
            None if indent.kind() == ValueKind::Bool => " ".repeat(usize::from(indent.is_true())),
            None => match i64::try_from(indent)? {
                n if n > 64 => return Err(limit("an indentation is too large")),
                n => " ".repeat(usize::try_from(n).unwrap_or(0)),
            },
        });
        style.item_separator = ",".into();
    }
    if let Some(separators) = option(2, "separators")? {
        let pair: Vec<String> = separators.try_iter()?.map(|v| str_of(&v)).collect();
        let [item, key] =
            <[String; 2]>::try_from(pair).map_err(|_| fail("two separators needed"))?;
        if item.len() + key.len() > 64 {
            return Err(limit("a separator is too long"));
        }
        (style.item_separator, style.key_separator) = (item, key);
    }
    kwargs.assert_all_used()?;
    budget.deep(value)?;
    to_json(value, &style).map(Value::from)
}

fn indent(budget: &Budget, _: &State, args: &[Value]) -> Result<Value, Error> {
    type Indent<'a> = (&'a Value, Option<Value>, Option<bool>, Option<bool>, Kwargs);
    let (value, width, first, blank, kwargs): Indent = from_args(args)?;
    let width = width.or(kwargs.get("width")?);
    let first = first.or(kwargs.get("first")?).unwrap_or(false);
    let blank = blank.or(kwargs.get("blank")?).unwrap_or(false);
    kwargs.assert_all_used()?;
    let prefix = match width {
        None => " ".repeat(4),
        Some(w) => match w.as_str() {
            Some(s) => s.to_owned(),
            None => {
                let n = i64::try_from(w)?;
                if n > MAX_COUNT {
                    return Err(limit("an indentation is too large"));
                }
                " ".repeat(usize::try_from(n).unwrap_or(0))
            }
        },
    };
    budget.deep(value)?;
    let text = str_of(value);
    let lines = text.matches('\n').count() as u64 + 1;
    budget.memory(lines.saturating_mul(prefix.len() as u64))?;
    let mut out = String::new();
    for (i, line) in text.split('\n').enumerate() {
        out.push_str(if i > 0 { "\n" } else { "" });
        if (i > 0 && (blank || !line.is_empty())) || (i == 0 && first) {
            out.push_str(&prefix);
        }
        out.push_str(line);
    }
    Ok(Value::from(out))
}

fn join(
    budget: &Budget,
    items: &Value,
    joiner: &str,
    attribute: Option<&str>,
) -> Result<Value, Error> {
    let mut out = String::new();
    for (i, item) in items.try_iter()?.enumerate() {
        let item = match attribute {
            Some(name) => item.get_attr(name)?,
            None => item,
        };
        budget.deep(&item)?;
        let text = str_of(&item);
        budget.memory((joiner.len() + text.len()) as u64)?;
        out.push_str(if i > 0 { joiner } else { "" });
        out.push_str(&text);
    }
    Ok(Value::from(out))
}

fn replace(
    budget: &Budget,
    text: &str,
    from: &str,
    to: &str,
    count: Option<i64>,
) -> Result<Value, Error> {
    let count = count.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    let found = text.matches(from).take(count).count() as u64;
    budget.memory((text.len() as u64).saturating_add(found.saturating_mul(to.len() as u64)))?;
    Ok(Value::from(text.replacen(from, to, count)))
}

/// Rejects widths and precisions that would print more than the budget knows of.
fn check_format(budget: &Budget, format: &str) -> Result<(), Error> {
    budget.work(format.len() as u64)?;
    let wide = format.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > 3);
    if wide || format.contains('*') || format.contains(":{") {
        return Err(limit("a width in a format string is too large"));
    }
    let fields = format.matches(['%', '{']).count() as u64;
    budget.memory(fields.saturating_mul(1000))
}

fn call_method(
    budget: &Budget,
    state: &State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    match (value.as_str(), value.kind()) {
        (Some(s), _) => match string_method(budget, s, method, args)? {
            Some(result) => Ok(result),
            None => {
                minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
            }
        },
        (_, ValueKind::Seq | ValueKind::Iterable) => list_method(budget, value, method, args),
        (_, ValueKind::Map) if is_data_map(value) => {
            if matches!(method, "update" | "pop" | "popitem" | "clear" | "setdefault") {
                return Err(fail(format!("dict.{method}: templates can't change values")));
            }
            minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

/// The string methods that the pycompat module lacks or that differ from Python there.
fn string_method(
    budget: &Budget,
    s: &str,
    method: &str,
    args: &[Value],
) -> Result<Option<Value>, Error> {
    let is = |test: fn(char) -> bool| -> Result<Value, Error> {
        let () = from_args(args)?;
        Ok(Value::from(!s.is_empty() && s.chars().all(test)))
    };
    let position = |found: Option<usize>| {
        found.map_or(Value::from(-1), |byte| Value::from(s[..byte].chars().count()))
    };
    Ok(Some(match method {
        "isdigit" | "isnumeric" | "isdecimal" => is(char::is_numeric)?,
        "isalpha" => is(char::is_alphabetic)?,
        "isalnum" => is(char::is_alphanumeric)?,
        "isspace" => is(char::is_whitespace)?,
        "find" | "rfind" | "count" | "removeprefix" | "removesuffix" | "partition"
        | "rpartition" => {
            let (what,): (&str,) = from_args(args)?;
            match method {
                "find" => position(s.find(what)),
                "rfind" => position(s.rfind(what)),
                "count" if what.is_empty() => Value::from(s.chars().count() + 1),
                "count" => Value::from(s.matches(what).count()),
                "removeprefix" => Value::from(s.strip_prefix(what).unwrap_or(s)),
                "removesuffix" => Value::from(s.strip_suffix(what).unwrap_or(s)),
                _ if what.is_empty() => return Err(fail("empty separator")),
                "partition" => match s.split_once(what) {
                    Some((a, b)) => strings(&[a, what, b]),
                    None => strings(&[s, "", ""]),
                },
                _ => match s.rsplit_once(what) {
                    Some((a, b)) => strings(&[a, what, b]),
                    None => strings(&["", "", s]),
                },
            }
        }
        "split" | "rsplit" => split(s, method == "rsplit", args)?,
        "replace" => {
            let (from, to, count): (&str, &str, Option<i64>) = from_args(args)?;
            replace(budget, s, from, to, count)?
        }
        "join" => {
            let (items,): (&Value,) = from_args(args)?;
            join(budget, items, s, None)?
        }
        "format" => {
            check_format(budget, s)?;
            args.iter().try_for_each(|arg| budget.deep(arg))?;
            let args: Vec<Value> = args.iter().map(printable).collect();
            minijinja::format_filter(minijinja::FormatStyle::StrFormat, s, &args)
                .map(Value::from)?
        }
        _ => return Ok(None),
    }))
}

fn strings(parts: &[&str]) -> Value {
    parts.iter().map(|part| Value::from(*part)).collect()
}

fn split(s: &str, from_right: bool, args: &[Value]) -> Result<Value, Error> {
    let (sep, max, kwargs): (Option<&Value>, Option<i64>, Kwargs) = from_args(args)?;
    let sep = sep.cloned().or(kwargs.get("sep")?).filter(|v| !v.is_none());
    let max = max.or(kwargs.get("maxsplit")?).unwrap_or(-1);
    kwargs.assert_all_used()?;
    let max = usize::try_from(max).map_or(usize::MAX, |n| n.saturating_add(1));
    let Some(sep) = sep else {
        return Ok(strings(&split_whitespace(s, from_right, max)));
    };
    let sep = sep.as_str().ok_or_else(|| fail("a separator must be a string"))?;
    if sep.is_empty() {
        return Err(fail("empty separator"));
    }
    let mut parts: Vec<&str> =
        if from_right { s.rsplitn(max, sep).collect() } else { s.splitn(max, sep).collect() };
    if from_right {
        parts.reverse();
    }
    Ok(strings(&parts))
}

/// Splits at runs of white space into at most `max` parts; the last one keeps its inner spaces.
fn split_whitespace(s: &str, from_right: bool, max: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = s.trim();
    while !rest.is_empty() {
        let cut = if from_right {
            rest.rfind(char::is_whitespace)
        } else {
            rest.find(char::is_whitespace)
        };
        match cut {
            Some(at) if parts.len() + 1 < max => {
                let (head, tail) = rest.split_at(at);
                let (part, remaining) = if from_right { (tail, head) } else { (head, tail) };
                parts.push(part.trim());
                rest = remaining.trim();
            }
            _ => {
                parts.push(rest);
                break;
            }
        }
    }
    if from_right {
        parts.reverse();
    }
    parts
}

fn list_method(
    budget: &Budget,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    match method {
        "count" | "index" => {
            let (what,): (&Value,) = from_args(args)?;
            budget.deep(value)?;
            let mut equal = value.try_iter()?.map(|item| item == *what);
            if method == "count" {
                return Ok(Value::from(equal.filter(|e| *e).count()));
            }
            let found = equal.position(|e| e);
            found.map(Value::from).ok_or_else(|| fail("the value is not in the list"))
        }
        "append" | "extend" | "insert" | "pop" | "remove" | "reverse" | "sort" | "clear" => {
            Err(fail(format!("list.{method}: templates can't change values")))
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}
