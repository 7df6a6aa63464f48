//! Hugging Face chat templates, which are Jinja programs from strangers.

mod budget;
mod builtins;
mod generation;
mod guard;
mod ops;
mod pyfmt;
mod strftime;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::machinery::{
    make_string_output, parse, tokenize, CodeGenerator, Vm, WhitespaceConfig,
};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, ErrorKind};

use crate::error::{Error, Result, Status};
use budget::{Budget, LIMIT_PREFIX};
use builtins::Session;

pub const MAX_TEMPLATE: usize = 256 << 10;
pub const MAX_JSON: usize = 32 << 20;
pub const DEFAULT_FUEL: u64 = 4_000_000;
pub const DEFAULT_OUTPUT: usize = 64 << 20;
/// Bytes and nodes that a rendering may read, and bytes that it may create.
const WORK: u64 = 1 << 30;
const MEMORY: u64 = 256 << 20;
/// Nesting of macro calls times four.
const RECURSION: usize = 200;
/// The parser and the interpreter recurse; their depth limits fit into this stack.
const STACK: usize = 64 << 20;
const NAME: &str = "chat_template";

pub struct Request<'a> {
    pub template: &'a str,
    /// A JSON array; None only compiles the template.
    pub messages: Option<&'a str>,
    /// A JSON object with the other variables.
    pub variables: Option<&'a str>,
    /// Local civil time as seconds since 1970; None is the system's clock in UTC.
    pub now: Option<i64>,
    pub fuel: u64,
    pub max_output: usize,
}

pub fn render(request: &Request) -> Result<String> {
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new().stack_size(STACK);
        let worker = worker
            .spawn_scoped(scope, || crate::error::quietly(|| render_here(request)))
            .map_err(|e| Error::new(Status::Limit, format!("chat template: no thread: {e}")))?;
        match worker.join() {
            Ok(result) => result,
            Err(_) => Err(Error::new(Status::Internal, "chat template: panic")),
        }
    })
    .map_err(|e| match e.status {
        Status::Raised => e,
        _ => e.context("chat template"),
    })
}

fn render_here(request: &Request) -> Result<String> {
    if request.template.len() > MAX_TEMPLATE {
        let message = format!("{} bytes, limit {MAX_TEMPLATE}", request.template.len());
        return Err(Error::new(Status::Argument, message));
    }
    let source = generation::replace_tags(request.template);
    let session = Arc::new(Session {
        budget: Budget::new(WORK, MEMORY),
        raised: Mutex::new(None),
        now: request.now.unwrap_or_else(utc_now),
    });
    let mut env = Environment::new();
    builtins::install(&mut env, &session);
    env.set_fuel(Some(request.fuel));
    env.set_recursion_limit(RECURSION);

    let whitespace =
        WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true };
    guard::check_source(tokenize(&source, false, SyntaxConfig::default(), whitespace))?;
    let tree = parse(&source, NAME, SyntaxConfig::default(), whitespace)
        .map_err(|e| failure(Status::Corrupt, &e))?;
    guard::check_tree(&tree)?;
    let mut generator = CodeGenerator::new(NAME, &source);
    generator.compile_stmt(&tree);
    let code = guard::instrument(&generator.finish().0)?;
    let Some(messages) = request.messages else { return Ok(String::new()) };
    let root = variables(messages, request.variables)?;

    let mut text = String::new();
    let blocks = BTreeMap::new();
    let outcome = Vm::new(&env)
        .eval(&code, root, &blocks, &mut make_string_output(&mut text), AutoEscape::None)
        .map(|_| ());
    if let Err(e) = outcome {
        let raised = session.raised.lock().ok().and_then(|mut raised| raised.take());
        let limited = e.detail().is_some_and(|d| d.starts_with(LIMIT_PREFIX));
        return Err(match raised {
            Some(message) => Error { message, ..failure(Status::Raised, &e) },
            None if limited || e.kind() == ErrorKind::OutOfFuel => failure(Status::Limit, &e),
            None => failure(Status::Render, &e),
        });
    }
    if text.len() > request.max_output {
        let message = format!("output of {} bytes, limit {}", text.len(), request.max_output);
        return Err(Error::new(Status::Limit, message));
    }
    Ok(text)
}

fn utc_now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

fn variables(messages: &str, others: Option<&str>) -> Result<Value> {
    let mut root = match others {
        Some(json) => parse_json("variables", json)?,
        None => serde_json::Value::Object(Default::default()),
    };
    let messages = parse_json("messages", messages)?;
    if !messages.is_array() {
        return Err(Error::new(Status::Corrupt, "messages: not a JSON array"));
    }
    match root.as_object_mut() {
        // `$` names belong to the guards.
        Some(map) if map.keys().any(|k| k.starts_with('$')) => {
            return Err(Error::new(Status::Corrupt, "variables: a name starts with '$'"))
        }
        Some(map) => map.insert("messages".into(), messages),
        None => return Err(Error::new(Status::Corrupt, "variables: not a JSON object")),
    };
    Ok(Value::from_serialize(root))
}

fn parse_json(what: &str, json: &str) -> Result<serde_json::Value> {
    if json.len() > MAX_JSON {
        let message = format!("{what}: {} bytes, limit {MAX_JSON}", json.len());
        return Err(Error::new(Status::Argument, message));
    }
    serde_json::from_str(json).map_err(|e| Error::new(Status::Corrupt, format!("{what}: {e}")))
}

fn failure(status: Status, e: &minijinja::Error) -> Error {
    let line = e.line().and_then(|line| u32::try_from(line).ok()).unwrap_or(0);
    let mut message = match e.detail() {
        Some(detail) => format!("{}: {detail}", e.kind()),
        None => e.kind().to_string(),
    };
    if line > 0 {
        message = format!("line {line}: {message}");
    }
    Error { status, message, line }
}
