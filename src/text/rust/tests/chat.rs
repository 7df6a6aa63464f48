//! Chat templates: results, and templates that attack the process.

use nibble_text::chat::{render, Request, DEFAULT_FUEL, DEFAULT_OUTPUT};
use nibble_text::error::{Error, Status};

fn run(template: &str) -> Result<String, Error> {
    run_with(template, r#"[{"role":"user","content":"hi"}]"#, "{}")
}

fn run_with(template: &str, messages: &str, variables: &str) -> Result<String, Error> {
    render(&Request {
        template,
        messages: Some(messages),
        variables: Some(variables),
        now: Some(1_709_211_909),
        fuel: DEFAULT_FUEL,
        max_output: DEFAULT_OUTPUT,
    })
}

fn status(template: &str) -> Status {
    run(template).map_or_else(|e| e.status, |_| Status::Ok)
}

#[test]
fn chatml() {
    let template =
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m['content'] }}<|im_end|>\n\
                    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let text = run_with(
        template,
        r#"[{"role":"user","content":"a \u0000 <b>"},{"role":"assistant","content":"é"}]"#,
        r#"{"add_generation_prompt":true}"#,
    );
    let expected = "<|im_start|>user\na \0 <b><|im_end|>\n<|im_start|>assistant\né<|im_end|>\n\
                    <|im_start|>assistant\n";
    assert_eq!(text.unwrap(), expected);
}

#[test]
fn compile_only() {
    let request = |template| Request {
        template,
        messages: None,
        variables: None,
        now: None,
        fuel: 1,
        max_output: 1,
    };
    assert_eq!(render(&request("{{ missing.attribute }}")).unwrap(), "");
    assert_eq!(render(&request("{% if %}")).unwrap_err().status, Status::Corrupt);
}

#[test]
fn failures_name_line_and_reason() {
    let e = run("a\n{{ raise_exception('no ' ~ 1) }}").unwrap_err();
    assert_eq!((e.status, e.line, e.message.as_str()), (Status::Raised, 2, "no 1"));
    let e = run("\n\n{{ x.y }}").unwrap_err();
    assert_eq!((e.status, e.line), (Status::Render, 3));
    let e = run("\n{% for %}").unwrap_err();
    assert_eq!((e.status, e.line), (Status::Corrupt, 2));
    let e = run("{{ f(*messages) }}").unwrap_err();
    assert_eq!((e.status, e.line), (Status::Unsupported, 1));
    assert_eq!(status("{% include 'x' %}"), Status::Unsupported);
    assert_eq!(status("{% extends 'x' %}"), Status::Unsupported);
    assert_eq!(status("{% block a %}{% endblock %}"), Status::Unsupported);
}

#[test]
fn endless_work_is_stopped() {
    for template in [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for x in [[]] recursive %}{{ loop([[]]) }}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s|replace('x','xx') %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s.replace('x','xx') %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = [ns.s, ns.s]|join %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set s %}{{ ns.s }}{{ ns.s }}{% endset %}\
         {% set ns.s = s %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = [ns.s, ns.s]|tojson %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
        "{% set ns = namespace(s='x') %}{% for i in range(100000) %}{% set ns.s = [ns.s] %}{% endfor %}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(100000) %}{% set ns.s = {'a': ns.s} %}{% endfor %}",
        "{% macro f(x) %}{{ f([x]) }}{% endmacro %}{{ f(1) }}",
        "{{ [1] * 100000000000 }}",
        "{{ 'a' * 100000000000 }}",
        "{{ 9223372036854775807 * [1] }}",
        "{{ 1 in [0] * 99999999999 }}",
        "{{ ('a' * 99999999) ~ ('a' * 99999999) }}",
        "{{ messages * 99999999999 }}",
        "{% set n = 99999999999 %}{{ ([0] * n) | list | length }}",
        "{{ 'a' | indent(100000000000) }}",
        "{{ 'a\n' | indent(9999999999999999999) }}",
        "{{ messages | tojson(indent=1000000000000) }}",
        "{{ '%99999999999d' | format(1) }}",
        "{{ '{:99999999999}'.format(1) }}",
        "{{ '{:{}}'.format(1, 99999999999) }}",
        "{{ [1] | batch(99999999999, 0) }}",
        "{{ [1] | slice(99999999999) }}",
        "{% set x = 'ab' * 1000000 %}{% for i in range(100000) %}{% if x in x %}{% endif %}{% endfor %}",
        "{% set x = 'ab' * 1000000 %}{% for i in range(100000) %}{{ x[i] }}{% endfor %}",
        "{% set x = 'ab' * 1000000 %}{% for i in range(100000) %}{% if x < x %}{% endif %}{% endfor %}",
        "{% set x = 'ab' * 1000000 %}{% for i in range(100000) %}{% if x == x == x %}{% endif %}{% endfor %}",
        "{% set x = 'ab' * 1000000 %}{% for i in range(100000) %}{{ x | upper | length }}{% endfor %}",
        "{% set x = 'ab' * 1000000 %}{% for i in range(100000) %}{{ x.startswith('b') }}{% endfor %}",
        "{% set x = 'a b ' * 1000000 %}{% for i in range(100000) %}{{ x.split() | length }}{% endfor %}",
        "{% set x = ['a b ' * 1000000] %}{% for i in range(100) %}{{ x | map('list') | list | length }}{% endfor %}",
        "{% set x = ['a' * 4000] * 100 %}{% for i in range(100000) %}{% if x is eq x %}{% endif %}{% endfor %}",
        "{% set x = [0] * 100000 %}{% for i in range(100000) %}{% if x == x %}{% endif %}{% endfor %}",
        "{% for i in range(100000) %}{% for j in range(9) %}0123456789012345678901234567890123456789012345678901\
         2345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234\
         5678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567\
         {% endfor %}{% endfor %}",
    ] {
        let got = run(template).map(|s| s.len());
        let head: String = template.chars().take(90).collect();
        let e = got.expect_err(&head);
        let expected = [Status::Limit, Status::Render];
        assert!(expected.contains(&e.status), "{head}: {e:?}");
    }
}

#[test]
fn cycles_and_depth_are_refused() {
    for template in [
        "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
        "{% set ns = namespace() %}{% set ns.a = [ns] %}{{ ns }}",
        "{% set ns = namespace() %}{% set ns.a = {'x': ns} %}{{ ns }}",
        "{% set a = namespace() %}{% set b = namespace(a=a) %}{% set a.b = b %}{{ a == b }}",
        "{% macro m() %}{% endmacro %}{% set ns = namespace() %}{% set ns.m = m %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(9999) %}{% set ns.x = ns.x|map('reverse')|list %}{% endfor %}\
         {{ ns.x }}",
    ] {
        assert_eq!(status(template), Status::Render, "{template}");
    }
    // Lazy sequences are flattened, so long chains of them are harmless.
    for template in [
        "{% set ns = namespace(x=[1]) %}{% for i in range(9999) %}{% set ns.x = ns.x[0:] %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(9999) %}{% set ns.x = ns.x|reverse %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(9999) %}{% set ns.x = ns.x + [] %}{% endfor %}{{ ns.x }}",
    ] {
        assert_eq!(run(template).as_deref().ok(), Some("[1]"), "{template}");
    }
}

#[test]
fn nested_sources_do_not_overflow_the_stack() {
    let deep = |open: &str, close: &str, n: usize| open.repeat(n) + "1" + &close.repeat(n);
    for n in [100, 1000, 50_000] {
        for (open, close) in
            [("(", ")"), ("[", "]"), ("{'a':", "}"), ("-", ""), ("not ", ""), ("f(", ")")]
        {
            let _ = run(&format!("{{{{ {} }}}}", deep(open, close, n)));
        }
        let _ = run(&format!("{{{{ 1{} }}}}", "|list".repeat(n)));
        let _ = run(&format!("{{{{ 1{} }}}}", " + 1".repeat(n)));
        let _ = run(&format!("{{{{ x{} }}}}", ".a".repeat(n)));
        let _ = run(&format!("{{{{ 1{} }}}}", " if 1 else 2".repeat(n)));
        let _ = run(&format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(n / 3)));
        let _ = run(&format!("{{{{ x{} }}}}", "~x".repeat(n)));
        let _ = run(&format!("{{{{ x{} }}}}", "()".repeat(n)));
        let _ = run(&format!("{{{{ x{} }}}}", " is odd".repeat(n)));
        let _ = run(&format!("{{{{ x{} }}}}", "[0]".repeat(n)));
        let _ = run(&format!("{{{{ 2{} }}}}", "**2".repeat(n)));
        let _ = run(&deep("{% if 1 %}", "{% endif %}", n / 10));
        let _ = run(&deep("{% for x in [1] %}", "{% endfor %}", n / 10));
        let _ = run(&deep("{% macro f() %}", "{% endmacro %}", n / 10));
        let json = deep("[", "]", n);
        assert_eq!(run_with("{{ messages }}{{ messages|tojson }}", &json, "{}").is_ok(), n == 100);
    }
    let deepest = deep("[", "]", 127);
    assert!(run_with(
        "{{ messages }}{{ messages|tojson }}{{ [messages] == messages }}",
        &deepest,
        "{}"
    )
    .is_ok());
}

#[test]
fn hostile_arguments() {
    for (messages, variables) in [
        ("", "{}"),
        ("{}", "{}"),
        ("[", "{}"),
        ("[1e999]", "{}"),
        ("[\"\\ud800\"]", "{}"),
        ("[]", "[]"),
        ("[]", "{\"$add\": 1}"),
        ("[]", "null"),
    ] {
        assert_eq!(run_with("x", messages, variables).unwrap_err().status, Status::Corrupt);
    }
    // A variable named like a builtin only hides it.
    assert!(run_with("{{ range }}{{ 1 + 1 }}", "[]", r#"{"range": 1, "loop": 2}"#).is_ok());
    assert_eq!(status(&"x".repeat(1 << 20)), Status::Argument);
    let small = Request {
        template: "{{ 'abc' }}",
        messages: Some("[]"),
        variables: None,
        now: None,
        fuel: 100,
        max_output: 2,
    };
    assert_eq!(render(&small).unwrap_err().status, Status::Limit);
    assert_eq!(
        render(&Request { fuel: 2, max_output: 9, ..small }).unwrap_err().status,
        Status::Limit
    );
}

/// A conversation far larger than real ones stays within the limits.
#[test]
fn long_conversations_fit() {
    let template = "{%- set ns = namespace(last=0, text='') -%}\
        {%- for m in messages[::-1] -%}{%- if m.role == 'user' and m.content is string and \
        not m.content.startswith('<x>') -%}{%- set ns.last = messages|length - 1 - loop.index0 -%}\
        {%- endif -%}{%- endfor -%}\
        {%- for m in messages -%}{%- set c = m.content | trim -%}\
        {%- if '</think>' in c -%}{%- set c = c.split('</think>')[-1].lstrip('\n') -%}{%- endif -%}\
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' -%}{%- endif -%}\
        {{- '<|' + m['role'] + '|>' + c + '<|end|>' -}}{%- endfor -%}";
    let content = "lorem ipsum ".repeat(170);
    let one = format!(r#"{{"role":"user","content":"{content}</think>{content}"}}"#);
    let messages = format!("[{}]", vec![one; 2000].join(","));
    assert!(run_with(template, &messages, "{}").unwrap().len() > 4_000_000);
}
