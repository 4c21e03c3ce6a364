//! What a text must be before the TOML reader sees it. That one takes some hundred bytes of memory for each byte of text, and calls
//! itself for each level of nesting: a long text could take the memory, and a deep one the stack.

use toml_parser::Source;
use toml_parser::lexer::TokenKind;

/// Bytes of a recipe or a model file. A network of a thousand layers has a tenth of it.
const LONGEST: usize = 1 << 20;

/// Levels of nesting: tables, lists, and the dots of keys. The reader has a limit for brackets and another one for the dots of
/// a key, and allows 6,000 levels of both together. Residuals within residuals, as deep as a model may have them, need two
/// thirds of this.
const DEEPEST: usize = 80;

/// What is wrong with `text`, if anything.
pub(super) fn check(text: &str) -> Result<(), String> {
    if text.len() > LONGEST {
        let length = text.len();
        return Err(format!("it has {length} bytes; a recipe or a model has at most {LONGEST}: is it another file?"));
    }
    match deepest(text) {
        (depth, _) if depth <= DEEPEST => Ok(()),
        (depth, line) => Err(format!(
            "line {line} is {depth} levels deep (tables, lists and the dots of keys count); at most {DEEPEST}: nest less"
        )),
    }
}

/// Where in a line without open brackets the scan is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Header,
    Value,
}

/// The greatest depth, and its line. The tokens are the reader's own; what makes no sense as TOML is refused there, and may
/// count for more here.
fn deepest(text: &str) -> (usize, usize) {
    // each open bracket, and the depth outside it
    let mut open: Vec<(TokenKind, usize)> = Vec::new();
    // the depth of the table whose header came last, the depth here, and the dots since the key began
    let (mut header, mut here, mut dots) = (0, 0, 0);
    let (mut state, mut deepest) = (State::Start, (0, 0));
    for token in Source::new(text).lex() {
        match token.kind() {
            TokenKind::Dot => dots += 1,
            TokenKind::Equals => {
                (here, dots) = (here + dots + 1, 0);
                if open.is_empty() {
                    state = State::Value;
                }
            }
            TokenKind::LeftSquareBracket if open.is_empty() && state != State::Value => state = State::Header,
            bracket @ (TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket) => {
                open.push((bracket, here));
                (here, dots) = (here + 1, 0);
            }
            bracket @ (TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket) => {
                let left = match bracket {
                    TokenKind::RightSquareBracket => TokenKind::LeftSquareBracket,
                    _ => TokenKind::LeftCurlyBracket,
                };
                if let Some((_, outside)) = open.pop_if(|(kind, _)| *kind == left) {
                    (here, dots) = (outside, 0);
                }
            }
            TokenKind::Comma => (here, dots) = (open.last().map_or(here, |(_, outside)| outside + 1), 0),
            TokenKind::Newline if open.is_empty() => {
                if state == State::Header {
                    // a table in a list of tables is one level deeper than its dots
                    header = dots + 2;
                }
                (here, dots, state) = (header, 0, State::Start);
            }
            _ => continue,
        }
        if here + dots > deepest.0 {
            deepest = (here + dots, token.span().start());
        }
    }
    let (depth, at) = deepest;
    (depth, 1 + text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_and_dots_are_levels() {
        // by hand
        for (text, levels) in [
            ("", 0),
            ("a = 1", 1),
            ("a.b.c = 1.5", 4),
            ("a = [[1, 2], [3]]", 3),
            ("a = { b.c = { d = [] } }", 7),
            ("[a.b]\nc = 1", 4),
            ("[[a.b]]\nc = { d = 1 }", 6),
            ("a = [\n  { b = 1 },\n  { b = 1 },\n]\nc = 1", 4),
            ("a = 1 # [[[[[", 1),
            ("a = \"[[[\\\"[[[\"", 1),
            ("a = '[[[\\'\nb = [1]", 2),
            ("a = \"\"\"\n[[[\"[\n\"\"\"\nb = '''{{{'{'''", 1),
        ] {
            assert_eq!(deepest(text).0, levels, "{text}");
        }
    }

    #[test]
    fn the_built_in_files_are_flat_and_what_is_too_deep_or_long_is_named() {
        for file in super::super::catalogue::RECIPES.iter().chain(super::super::catalogue::MODELS) {
            assert!(check(file.text).is_ok() && deepest(file.text).0 < 8, "{}", file.name);
        }
        let deep = format!("a = 1\nb = {}{}", "[".repeat(80), "]".repeat(80));
        let text = check(&deep).expect_err("81 levels");
        assert!(text.contains("line 2 is 81 levels deep") && text.contains("at most 80"), "{text}");
        let text = check(&" ".repeat(LONGEST + 1)).expect_err("long");
        assert!(text.contains("1048577 bytes"), "{text}");
    }
}
