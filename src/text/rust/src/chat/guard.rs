//! Rewrites a compiled template so that every instruction has a bounded cost.
//!
//! Operators become calls of bounded functions; filters, calls and methods are preceded by a call
//! that charges their arguments and followed by one that settles their result. The functions'
//! names start with `$`, which no template can spell.

use minijinja::machinery::ast::{self, BinOpKind, Expr, Stmt};
use minijinja::machinery::{Instruction, Instructions, Span, Token};
use minijinja::value::ValueKind;

use crate::error::{Error, Result, Status};

/// Filters and tests that read no more than one level of their arguments.
const CHEAP: [&str; 24] = [
    "boolean",
    "callable",
    "count",
    "d",
    "default",
    "defined",
    "divisibleby",
    "even",
    "false",
    "first",
    "float",
    "integer",
    "iterable",
    "last",
    "length",
    "mapping",
    "none",
    "number",
    "odd",
    "safe",
    "sequence",
    "string",
    "true",
    "undefined",
];
/// Filters and methods that may turn every byte of a string into a list slot.
const EXPLODING: [&str; 16] = [
    "batch",
    "dictsort",
    "groupby",
    "lines",
    "list",
    "max",
    "min",
    "reject",
    "reverse",
    "rsplit",
    "select",
    "slice",
    "sort",
    "split",
    "splitlines",
    "unique",
];
/// Bounds on what constant folding may build.
const MAX_FOLDED: u64 = 1 << 20;

/// Tokens of one tag and `elif` branches of one template: the depth of the syntax tree, on which
/// the compiler recurses, is bounded by their sum.
const MAX_TAG: usize = 4096;
const MAX_ELIF: usize = 1024;

/// Refuses sources whose syntax tree would be too deep; chains such as `a + a + a` nest, but the
/// parser's own depth limit doesn't count them.
pub fn check_source<'s>(
    tokens: impl Iterator<Item = std::result::Result<(Token<'s>, Span), minijinja::Error>>,
) -> Result<()> {
    let (mut tag, mut elif) = (0, 0);
    // What can't be tokenized is reported by the parser.
    for (token, span) in tokens.map_while(std::result::Result::ok) {
        match token {
            Token::VariableStart | Token::BlockStart => tag = 0,
            Token::Ident("elif") => elif += 1,
            _ => tag += 1,
        }
        if tag > MAX_TAG || elif > MAX_ELIF {
            let line = u32::from(span.start_line);
            let what = if tag > MAX_TAG { "a tag is too long" } else { "too many `elif`" };
            return Err(Error {
                line,
                ..Error::new(Status::Limit, format!("line {line}: {what}"))
            });
        }
    }
    Ok(())
}

pub fn explodes(filter: &str) -> bool {
    EXPLODING.contains(&filter)
}

pub fn instrument<'s>(code: &Instructions<'s>) -> Result<Instructions<'s>> {
    let mut rv = Instructions::new(code.name(), code.source());
    let mut new_index = Vec::new();
    let (mut at, mut total) = (0, 0);
    while let Some(instruction) = code.get(at) {
        let line = code.get_line(at).unwrap_or(0);
        let line = u16::try_from(line).unwrap_or(u16::MAX);
        // A jump to an instruction must also run the calls put before it.
        new_index.push(total);
        for new in expand(instruction).map_err(|e| Error { line: u32::from(line), ..e })? {
            total = rv.add_with_line(new, line) + 1;
        }
        at += 1;
    }
    let target = |old: u32| new_index.get(old as usize).copied().unwrap_or(total);
    for i in 0..total {
        use Instruction as I;
        if let Some(
            I::Iterate(t)
            | I::Jump(t)
            | I::JumpIfFalse(t)
            | I::JumpIfFalseOrPop(t)
            | I::JumpIfTrueOrPop(t)
            | I::BuildMacro(_, t, _),
        ) = rv.get_mut(i)
        {
            *t = target(*t);
        }
    }
    Ok(rv)
}

/// Calls `name` on the top `n` values and puts what it returns, also `n` values, back.
fn charge<'s>(name: &'s str, n: u16) -> Vec<Instruction<'s>> {
    match n {
        0 => vec![],
        n => {
            vec![Instruction::CallFunction(name, Some(n)), Instruction::UnpackList(usize::from(n))]
        }
    }
}

fn expand<'s>(instruction: &Instruction<'s>) -> Result<Vec<Instruction<'s>>> {
    use Instruction as I;
    let call = |name, n| vec![I::CallFunction(name, Some(n))];
    let settled = |mut before: Vec<I<'s>>| {
        before.extend([instruction.clone(), I::CallFunction("$settle", Some(1))]);
        before
    };
    Ok(match instruction {
        I::EmitRaw(text) => vec![I::LoadConst((*text).into()), I::Emit],
        I::GetItem => call("$item", 2),
        I::Slice => call("$slice", 4),
        I::Add => call("$add", 2),
        I::Mul => call("$mul", 2),
        I::Div => call("$div", 2),
        I::Rem => call("$mod", 2),
        I::IntDiv => call("$floordiv", 2),
        I::StringConcat => call("$concat", 2),
        I::In => call("$in", 2),
        I::Eq | I::Ne | I::Lt | I::Lte | I::Gt | I::Gte => {
            let mut rv = charge("$compare", 2);
            rv.push(instruction.clone());
            rv
        }
        // `a < b in c`: the operators are folded into one instruction.
        I::CompareAndPreserve(_) => {
            let mut rv = charge("$deep", 2);
            rv.push(instruction.clone());
            rv
        }
        I::SetAttr(_) => {
            let mut rv = charge("$setattr", 2);
            rv.push(instruction.clone());
            rv
        }
        I::LoadConst(value) if value.kind() == ValueKind::Iterable => settled(vec![]),
        I::BuildList(_) | I::BuildMap(_) => settled(vec![]),
        I::ApplyFilter("map", Some(n), _) => settled(charge("$map", *n)),
        I::ApplyFilter(name, Some(n), _) if explodes(name) => settled(charge("$explode", *n)),
        // Unlike the test, the `string` filter prints its argument.
        I::ApplyFilter(name, Some(n), _) if CHEAP.contains(name) && *name != "string" => {
            settled(charge("$shallow", *n))
        }
        I::ApplyFilter(_, Some(n), _) => settled(charge("$deep", *n)),
        I::PerformTest(name, Some(_), _) if CHEAP.contains(name) => vec![instruction.clone()],
        I::PerformTest(_, Some(n), _) => {
            let mut rv = charge("$deep", *n);
            rv.push(instruction.clone());
            rv
        }
        I::CallMethod(name, Some(n)) if explodes(name) => settled(charge("$explode", *n)),
        I::CallMethod(_, Some(n)) | I::CallFunction(_, Some(n)) | I::CallObject(Some(n)) => {
            settled(charge("$shallow", *n))
        }
        I::UnpackLists(_)
        | I::ApplyFilter(_, None, _)
        | I::PerformTest(_, None, _)
        | I::CallMethod(_, None)
        | I::CallFunction(_, None)
        | I::CallObject(None) => {
            return Err(Error::new(Status::Unsupported, "`*args` in a call is not supported"))
        }
        _ => vec![instruction.clone()],
    })
}

/// Refuses statements that need other templates.
///
/// Constant folding evaluates operators at compile time, before any budget exists; refuses
/// templates in which it would build large values.
pub fn check_tree(root: &Stmt) -> Result<()> {
    let mut walk = Walk { folded: 0, refused: None };
    walk.stmt(root);
    if let Some(what) = walk.refused {
        return Err(Error::new(Status::Unsupported, format!("`{what}` is not supported")));
    }
    if walk.folded > MAX_FOLDED {
        return Err(Error::new(Status::Limit, "the template's constants are too large"));
    }
    Ok(())
}

struct Walk {
    folded: u64,
    refused: Option<&'static str>,
}

impl Walk {
    fn body(&mut self, body: &[Stmt]) {
        body.iter().for_each(|s| self.stmt(s));
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Template(s) => self.body(&s.children),
            Stmt::EmitExpr(s) => self.expr(&s.expr),
            Stmt::ForLoop(s) => {
                self.expr(&s.iter);
                s.filter_expr.iter().for_each(|e| self.expr(e));
                self.body(&s.body);
                self.body(&s.else_body);
            }
            Stmt::IfCond(s) => {
                self.expr(&s.expr);
                self.body(&s.true_body);
                self.body(&s.false_body);
            }
            Stmt::WithBlock(s) => {
                s.assignments.iter().for_each(|(_, e)| self.expr(e));
                self.body(&s.body);
            }
            Stmt::Set(s) => self.expr(&s.expr),
            Stmt::SetBlock(s) => {
                s.filter.iter().for_each(|e| self.expr(e));
                self.body(&s.body);
            }
            Stmt::AutoEscape(s) => {
                self.expr(&s.enabled);
                self.body(&s.body);
            }
            Stmt::FilterBlock(s) => {
                self.expr(&s.filter);
                self.body(&s.body);
            }
            Stmt::Macro(s) => self.macro_decl(s),
            Stmt::CallBlock(s) => {
                self.call(&s.call);
                self.macro_decl(&s.macro_decl);
            }
            Stmt::Do(s) => self.call(&s.call),
            Stmt::Block(_) => self.refused = Some("block"),
            Stmt::Import(_) | Stmt::FromImport(_) => self.refused = Some("import"),
            Stmt::Extends(_) => self.refused = Some("extends"),
            Stmt::Include(_) => self.refused = Some("include"),
            Stmt::EmitRaw(_) | Stmt::Continue(_) | Stmt::Break(_) => {}
        }
    }

    fn macro_decl(&mut self, decl: &ast::Macro) {
        decl.defaults.iter().for_each(|e| self.expr(e));
        self.body(&decl.body);
    }

    fn call(&mut self, call: &ast::Call) {
        self.expr(&call.expr);
        self.args(&call.args);
    }

    fn args(&mut self, args: &[ast::CallArg]) {
        for arg in args {
            use ast::CallArg as A;
            let (A::Pos(e) | A::Kwarg(_, e) | A::PosSplat(e) | A::KwargSplat(e)) = arg;
            self.expr(e);
        }
    }

    fn expr(&mut self, expr: &Expr) {
        if let Some(size) = folded_size(expr) {
            // A constant number is small, however large its value.
            let size = if has_data(expr) { size } else { 1 };
            self.folded = self.folded.saturating_add(size);
            return;
        }
        match expr {
            Expr::Var(_) | Expr::Const(_) => {}
            Expr::Slice(e) => {
                self.expr(&e.expr);
                [&e.start, &e.stop, &e.step].into_iter().flatten().for_each(|e| self.expr(e));
            }
            Expr::UnaryOp(e) => self.expr(&e.expr),
            Expr::BinOp(e) => {
                self.expr(&e.left);
                self.expr(&e.right);
            }
            Expr::Compare(e) => {
                self.expr(&e.expr);
                e.ops.iter().for_each(|op| self.expr(&op.expr));
            }
            Expr::IfExpr(e) => {
                self.expr(&e.test_expr);
                self.expr(&e.true_expr);
                e.false_expr.iter().for_each(|e| self.expr(e));
            }
            Expr::Filter(e) => {
                e.expr.iter().for_each(|e| self.expr(e));
                self.args(&e.args);
            }
            Expr::Test(e) => {
                self.expr(&e.expr);
                self.args(&e.args);
            }
            Expr::GetAttr(e) => self.expr(&e.expr),
            Expr::GetItem(e) => {
                self.expr(&e.expr);
                self.expr(&e.subscript_expr);
            }
            Expr::Call(e) => self.call(e),
            Expr::List(e) => e.items.iter().for_each(|e| self.expr(e)),
            Expr::Map(e) => {
                e.keys.iter().chain(&e.values).for_each(|e| self.expr(e));
            }
        }
    }
}

/// An upper bound on the value of an integer expression and the size of any other; None when the
/// expression is not constant.
fn folded_size(expr: &Expr) -> Option<u64> {
    let sum = |items: &[Expr]| {
        items
            .iter()
            .try_fold(24 * items.len() as u64, |n, e| Some(n.saturating_add(folded_size(e)?)))
    };
    match expr {
        Expr::Const(c) => Some(match c.value.as_str() {
            Some(s) => s.len() as u64,
            None if has_data(expr) => 24 * c.value.len().unwrap_or(1) as u64,
            None => u64::try_from(c.value.clone()).unwrap_or(64),
        })
        .map(|n| n.max(1)),
        Expr::List(e) => sum(&e.items),
        Expr::Map(e) => Some(sum(&e.keys)?.saturating_add(sum(&e.values)?)),
        Expr::UnaryOp(e) => folded_size(&e.expr),
        Expr::Compare(e) => e
            .ops
            .iter()
            .try_fold(folded_size(&e.expr)?, |n, op| Some(n.saturating_add(folded_size(&op.expr)?)))
            .map(|n| if has_data(expr) { n } else { 1 }),
        Expr::BinOp(e) => {
            let (a, b) = (folded_size(&e.left)?, folded_size(&e.right)?);
            let size = match e.op {
                BinOpKind::Mul => a.saturating_mul(b),
                BinOpKind::Pow => a.saturating_pow(u32::try_from(b).unwrap_or(u32::MAX)),
                _ => a.saturating_add(b),
            };
            Some(size)
        }
        _ => None,
    }
}

/// True when a string, list or map occurs in a constant expression.
fn has_data(expr: &Expr) -> bool {
    match expr {
        Expr::Const(c) => c.value.as_str().is_some() || c.value.as_object().is_some(),
        Expr::List(_) | Expr::Map(_) => true,
        Expr::UnaryOp(e) => has_data(&e.expr),
        Expr::Compare(e) => has_data(&e.expr) || e.ops.iter().any(|op| has_data(&op.expr)),
        Expr::BinOp(e) => has_data(&e.left) || has_data(&e.right),
        _ => false,
    }
}
