//! Chat templates, rendered as Hugging Face's `apply_chat_template` renders them.
//!
//! The environment repeats the reference's settings: blocks trimmed on both sides, no escaping, `None` and `True`
//! spelt as in Python, Python's string methods, `raise_exception`, and a `tojson` that writes what `json.dumps` writes.
//! One thing is left out on purpose: `strftime_now`. A template that put today's date into the prompt would give
//! different shards every day; templates that test `strftime_now is defined` use their fixed date instead.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, ValueKind};
use minijinja::{AutoEscape, Environment, Error as JinjaError, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use crate::error::{Error, Result};

const NAME: &str = "chat_template";

/// A compiled chat template with the special tokens that it may mention.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: Vec<(String, String)>,
}

impl ChatTemplate {
    /// Compiles `source`; `special_tokens` are the variables such as `bos_token` and their text.
    ///
    /// Fails with [`Error::Template`] when the source is not valid Jinja.
    pub fn new(source: &str, special_tokens: Vec<(String, String)>) -> Result<Self> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| describe(&error))?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(python_method);
        environment.add_filter("tojson", tojson);
        environment.add_filter("trim", |text: &str, chars: Option<&str>| strip(text, chars, true, true).to_string());
        environment.add_function("raise_exception", |message: String| -> std::result::Result<Value, JinjaError> {
            Err(JinjaError::new(ErrorKind::InvalidOperation, message))
        });
        // Jinja counts every line ending as "\n".
        let source = without_generation_tags(&source.replace("\r\n", "\n").replace('\r', "\n"));
        environment.add_template_owned(NAME, source).map_err(|error| describe(&error))?;
        Ok(Self { environment, special_tokens })
    }

    /// Renders `messages`, a JSON array of objects with `role` and `content`.
    ///
    /// Fails with [`Error::Template`] when the template raises an error or uses what is not defined.
    pub fn render(&self, messages: &serde_json::Value, add_generation_prompt: bool) -> Result<String> {
        let mut variables: Vec<(&str, Value)> =
            self.special_tokens.iter().map(|(name, token)| (name.as_str(), Value::from(token.as_str()))).collect();
        variables.push(("messages", Value::from(Serde(messages))));
        variables.push(("tools", Value::from(())));
        variables.push(("documents", Value::from(())));
        variables.push(("add_generation_prompt", Value::from(add_generation_prompt)));
        let template = self.environment.get_template(NAME).map_err(|error| describe(&error))?;
        template.render(Value::from_pairs(variables)).map_err(|error| describe(&error))
    }
}

fn describe(error: &JinjaError) -> Error {
    let mut text = match (error.detail(), error.line()) {
        (Some(detail), Some(line)) => format!("{detail} (line {line} of the template)"),
        (Some(detail), None) => detail.to_string(),
        (None, Some(line)) => format!("{} (line {line} of the template)", error.kind()),
        (None, None) => error.kind().to_string(),
    };
    if error.kind() == ErrorKind::UnknownFunction && text.contains("strftime_now") {
        text.push_str("; strftime_now is left out because shards must not depend on the day they are built");
    }
    Error::Template(text)
}

/// Turns `{% generation %} ... {% endgeneration %}`, which only marks the assistant's turns, into a plain scope.
fn without_generation_tags(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        result.push_str(before);
        // From 2 on: in "{%}" the sign cannot open and close a tag at once.
        let Some(end) = tag[2..].find("%}").map(|end| end + 2) else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end + 2);
        let word = tag[2..end].trim_matches(['-', '+']).trim();
        match word {
            "generation" => result.push_str(&tag.replacen("generation", "with", 1)),
            "endgeneration" => result.push_str(&tag.replacen("endgeneration", "endwith", 1)),
            _ => result.push_str(tag),
        }
        rest = after;
    }
    result.push_str(rest);
    result
}

/// Python's string methods; those whose idea of white space differs from Rust's are done here, the rest in minijinja.
fn python_method(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> std::result::Result<Value, JinjaError> {
    if let (ValueKind::String, Some(text)) = (value.kind(), value.as_str()) {
        let argument = args.first().and_then(Value::as_str);
        let plain = args.is_empty() || (args.len() == 1 && argument.is_some());
        match (method, argument) {
            ("strip", chars) if plain => return Ok(Value::from(strip(text, chars, true, true))),
            ("lstrip", chars) if plain => return Ok(Value::from(strip(text, chars, true, false))),
            ("rstrip", chars) if plain => return Ok(Value::from(strip(text, chars, false, true))),
            ("split", None) if args.is_empty() => {
                let words = text.split(is_python_space).filter(|word| !word.is_empty());
                return Ok(words.map(Value::from).collect());
            }
            ("removeprefix", Some(prefix)) => return Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text))),
            ("removesuffix", Some(suffix)) => return Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text))),
            _ => {}
        }
    }
    unknown_method_callback(state, value, method, args)
}

fn strip<'a>(text: &'a str, chars: Option<&str>, left: bool, right: bool) -> &'a str {
    let removed = |c: char| chars.map_or_else(|| is_python_space(c), |chars| chars.contains(c));
    let text = if left { text.trim_start_matches(removed) } else { text };
    if right {
        text.trim_end_matches(removed)
    } else {
        text
    }
}

/// White space as `str.strip` sees it: Unicode's, and the four ASCII separators that Rust does not count.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)`.
fn tojson(value: &Value, kwargs: Kwargs) -> std::result::Result<String, JinjaError> {
    let indent: Option<usize> = kwargs.get("indent")?;
    let _ensure_ascii: Option<bool> = kwargs.get("ensure_ascii")?;
    kwargs.assert_all_used()?;
    let mut bytes = Vec::new();
    let written = match indent {
        Some(width) => {
            let spaces = " ".repeat(width);
            let formatter = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut bytes, PythonFormatter)),
    };
    written.map_err(|error| JinjaError::new(ErrorKind::BadSerialization, error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| JinjaError::new(ErrorKind::BadSerialization, error.to_string()))
}

/// Writes a space after each comma and colon, as `json.dumps` does.
struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(source: &str, messages: serde_json::Value) -> Result<String> {
        ChatTemplate::new(source, vec![("bos_token".into(), "<s>".into())])?.render(&messages, true)
    }

    #[test]
    fn renders_turns_and_generation_prompt() {
        let source = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m['content'] }}{% endfor %}\
                      {% if add_generation_prompt %}[assistant]{% endif %}";
        let text = render(source, json!([{"role": "user", "content": "a < b"}])).unwrap();
        assert_eq!(text, "<s>[user]a < b[assistant]");
    }

    #[test]
    fn generation_tags_only_mark() {
        let source =
            "{% for m in messages %}\n{%- generation -%}\n{{ m.content }}\n{%- endgeneration %}\n{% endfor %}!";
        assert_eq!(render(source, json!([{"role": "user", "content": "x"}])).unwrap(), "x!");
        assert_eq!(without_generation_tags("{% generation %}a{% endgeneration %}"), "{% with %}a{% endwith %}");
        assert_eq!(without_generation_tags("{% unclosed"), "{% unclosed");
        assert_eq!(without_generation_tags("{%}a%}b"), "{%}a%}b");
    }

    #[test]
    fn python_spelling_and_methods() {
        let source = "{{ none }} {{ true }} {{ ' a\u{1f}'.strip() }}|{{ 'a</think>b'.split('</think>')[-1] }}|\
                      {{ 'abc'.removeprefix('a') }}|{{ {'k': [1, 'é<']} | tojson }}|{{ ' x ' | trim }}";
        let expected = "None True a|b|bc|{\"k\": [1, \"é<\"]}|x";
        assert_eq!(render(source, json!([{"role": "user", "content": ""}])).unwrap(), expected);
    }

    #[test]
    fn raised_exception_keeps_its_message() {
        let error = render("{{ raise_exception('roles must alternate') }}", json!([])).unwrap_err();
        assert!(error.to_string().contains("roles must alternate"), "{error}");
    }

    #[test]
    fn todays_date_is_refused_with_the_reason() {
        let error = render("{{ strftime_now('%Y') }}", json!([])).unwrap_err();
        assert!(error.to_string().contains("must not depend on the day"), "{error}");
        assert_eq!(render("{{ 1 if strftime_now is defined else 2 }}", json!([])).unwrap(), "2");
    }

    #[test]
    fn bad_source_is_an_error() {
        assert!(ChatTemplate::new("{% if %}", Vec::new()).is_err());
    }
}
