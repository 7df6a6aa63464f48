//! Transformers' `{% generation %}` blocks, which mark the assistant's text for training.

use std::borrow::Cow;

/// Turns the tags into `with` blocks, which print the same and scope assignments as they do.
pub fn replace_tags(source: &str) -> Cow<'_, str> {
    if !source.contains("generation") {
        return Cow::Borrowed(source);
    }
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find('{') {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        let len = match tail.as_bytes().get(1) {
            Some(b'#') => tail.find("#}").map_or(tail.len(), |end| end + 2),
            Some(b'{') => tag_length(tail, "}}"),
            Some(b'%') => tag_length(tail, "%}"),
            _ => 1,
        };
        let (tag, next) = tail.split_at(len);
        match replacement(tag) {
            Some(new) => out.push_str(&new),
            None => out.push_str(tag),
        }
        rest = next;
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The length of a tag up to and with its end, which doesn't count inside string literals.
fn tag_length(tail: &str, end: &str) -> usize {
    let bytes = tail.as_bytes();
    let mut quote = None;
    let mut at = 2;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(q), c) if q == c => quote = None,
            (None, c @ (b'"' | b'\'')) => quote = Some(c),
            (None, _) if bytes[at..].starts_with(end.as_bytes()) => return at + end.len(),
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

fn replacement(tag: &str) -> Option<String> {
    let inner = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    let word = inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
    match word {
        "generation" => Some(tag.replace("generation", "with")),
        "endgeneration" => Some(tag.replace("endgeneration", "endwith")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::replace_tags;

    #[test]
    fn only_tags_change() {
        let cases = [
            ("{%- generation %}x{% endgeneration -%}", "{%- with %}x{% endwith -%}"),
            ("{# {% generation %} #}", "{# {% generation %} #}"),
            ("{{ '{% generation %}' }}", "{{ '{% generation %}' }}"),
            ("{% if add_generation_prompt %}", "{% if add_generation_prompt %}"),
            ("{%generation%}{ {% endgeneration", "{%with%}{ {% endgeneration"),
            ("{{ 'é\\'generation", "{{ 'é\\'generation"),
        ];
        for (source, expected) in cases {
            assert_eq!(replace_tags(source), expected);
        }
    }
}
