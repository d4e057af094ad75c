//! Where the answer of a response is: after the trace, in the last box.

/// What follows the last `</think>`; the whole text when there is none.
pub fn answer_text(response: &str) -> &str {
    response.rsplit_once("</think>").map_or(response, |(_, answer)| answer)
}

/// Content of the last `\boxed{...}` whose braces balance; `\{` and `\}` do not count as braces.
///
/// ```
/// use megatron_sft_core::answer::last_boxed;
/// assert_eq!(last_boxed(r"\boxed{1}, no: \boxed{\frac{1}{2}}"), Some(r"\frac{1}{2}"));
/// assert_eq!(last_boxed(r"\boxed{7} and then \boxed{8"), Some("7"));
/// ```
pub fn last_boxed(text: &str) -> Option<&str> {
    const COMMAND: &[u8] = br"\boxed";
    let bytes = text.as_bytes();
    // One entry for each open brace; a box's entry holds where its content starts.
    let mut open: Vec<Option<usize>> = Vec::new();
    let mut last: Option<(usize, usize)> = None;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if bytes[at..].starts_with(COMMAND) => {
                let brace = at + COMMAND.len() + leading_spaces(&bytes[at + COMMAND.len()..]);
                if bytes.get(brace) == Some(&b'{') {
                    open.push(Some(brace + 1));
                    at = brace + 1;
                } else {
                    at += COMMAND.len();
                }
                continue;
            }
            b'\\' => at += 1,
            b'{' => open.push(None),
            b'}' => {
                if let Some(Some(start)) = open.pop() {
                    if last.is_none_or(|(latest, _)| start > latest) {
                        last = Some((start, at));
                    }
                }
            }
            _ => {}
        }
        at += 1;
    }
    last.map(|(start, end)| &text[start..end])
}

fn leading_spaces(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| **byte == b' ').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_follows_the_last_trace() {
        assert_eq!(answer_text("<think>a</think>b</think> c"), " c");
        assert_eq!(answer_text("no trace"), "no trace");
    }

    #[test]
    fn last_box_in_odd_texts() {
        for (text, expected) in [
            (r"\boxed{1} \boxed{2}", Some("2")),
            (r"\boxed {3}", Some("3")),
            (r"\boxed{}", Some("")),
            (r"\boxed{a\{b}", Some(r"a\{b")),
            (r"\boxed{\left\{1\right.}", Some(r"\left\{1\right.")),
            (r"{ \boxed{5} ", Some("5")),
            (r"} \boxed{5}", Some("5")),
            (r"\boxed{a \boxed{b} c}", Some("b")),
            (r"\boxed{open", None),
            (r"\boxed 5", None),
            ("", None),
            ("\\", None),
        ] {
            assert_eq!(last_boxed(text), expected, "{text}");
        }
    }

    #[test]
    fn many_unclosed_boxes_take_linear_time() {
        let text = format!(r"\boxed{{7}}{}", r"\boxed{".repeat(200_000));
        assert_eq!(last_boxed(&text), Some("7"));
    }
}
