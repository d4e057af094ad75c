//! Chat templates: arbitrary messages through fixed templates, and arbitrary templates over fixed messages. Text or an
//! error, twice the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use megatron_sft_core::template::ChatTemplate;
use serde_json::{json, Value};

const CHATML: &str = "\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}";

/// What templates in the wild do: strip, split, slices, a namespace, JSON, errors of their own.
const REASONING: &str = "\
{%- set state = namespace(last=-1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if message.role == 'user' and state.last < 0 %}{%- set state.last = index %}{%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else message|tojson(indent=2) %}
    {%- if '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n').rstrip() %}
    {%- elif message.role not in ['user', 'system', 'assistant'] %}
        {{- raise_exception('unknown role ' ~ message.role) }}
    {%- endif %}
    {{- bos_token + message.role|trim + '\\n' + content.strip() + message|items|list|string }}
{%- endfor %}";

fuzz_target!(|data: &[u8]| {
    let Some((mode, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    match mode % 3 {
        0 | 1 => {
            let Ok(messages) = serde_json::from_str::<Value>(text) else { return };
            render(if mode % 3 == 0 { CHATML } else { REASONING }, &messages);
        }
        _ => render(
            text,
            &json!([
                {"role": "system", "content": " Be brief.\n"},
                {"role": "user", "content": "2 + 2?", "name": "a"},
                {"role": "assistant", "content": "<think>\nx\n</think>\n\n4"},
            ]),
        ),
    }
});

fn render(source: &str, messages: &Value) {
    let tokens = vec![("bos_token".to_string(), "<s>".to_string())];
    let Ok(template) = ChatTemplate::new(source, tokens) else { return };
    for add_generation_prompt in [true, false] {
        let text = template.render(messages, add_generation_prompt).map_err(|error| error.to_string());
        let again = template.render(messages, add_generation_prompt).map_err(|error| error.to_string());
        assert_eq!(text, again);
    }
}
