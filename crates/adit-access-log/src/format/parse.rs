//! From a format string to its pieces.

use super::Piece;
use super::operator::Operator;

/// Splits at operators: `%NAME%`, `%NAME(argument)%`, `%NAME(argument):length%`; `%%` is a percent sign.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let (before, after) = rest.split_at(at);
        literal.push_str(before);
        let after = after.get(1..).unwrap_or_default();
        if let Some(after) = after.strip_prefix('%') {
            literal.push('%');
            rest = after;
            continue;
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut literal).into()));
        }
        let (piece, after) = operator(after)?;
        pieces.push(piece);
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal.into()));
    }
    Ok(pieces)
}

/// One operator, from behind its first percent sign; and what follows its last.
fn operator(text: &str) -> Result<(Piece, &str), String> {
    let bad = || {
        format!(
            "Incorrect configuration: %{text}: expected %OPERATOR%, %OPERATOR(argument)% or %OPERATOR(argument):length%"
        )
    };
    let end = text.find(|letter: char| !matches!(letter, 'A'..='Z' | '0'..='9' | '_')).ok_or_else(bad)?;
    let (name, mut rest) = text.split_at(end);
    if name.is_empty() {
        return Err(bad());
    }
    let mut argument = None;
    if let Some(inside) = rest.strip_prefix('(') {
        let (inside, after) = inside.split_once(')').ok_or_else(bad)?;
        argument = Some(inside);
        rest = after;
    }
    let mut length = None;
    if let Some(digits) = rest.strip_prefix(':') {
        let end = digits.find('%').ok_or_else(bad)?;
        let (digits, after) = digits.split_at(end);
        length = Some(digits.parse::<usize>().map_err(|_| format!("Length must be an integer, given: {digits}"))?);
        rest = after;
    }
    let rest = rest.strip_prefix('%').ok_or_else(bad)?;
    Ok((Piece::Operator { operator: Operator::new(name, argument)?, length }, rest))
}
