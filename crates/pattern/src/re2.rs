//! Rewrites RE2 syntax (the `re2/doc/syntax.txt` of that project) into the syntax of the `regex` crate.
//!
//! Only the differences are handled; whatever both understand alike is copied, and what neither understands is
//! left for the compiler to refuse. Parentheses must balance here, since the result is put between others.

use std::iter::Peekable;
use std::str::Chars;

/// The greatest repetition count RE2 takes.
const REPEAT_MAX: u32 = 1000;

/// Rewrites `pattern`, or says in a sentence what is wrong with it.
pub(crate) fn translate(pattern: &str) -> Result<String, &'static str> {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars().peekable();
    let mut depth = 0_u32;
    while let Some(c) = chars.next() {
        match c {
            '\\' => escape(&mut chars, false, &mut out)?,
            '[' => class(&mut chars, &mut out)?,
            '{' => brace(&mut chars, &mut out)?,
            '(' => {
                depth += 1;
                out.push('(');
                group_flags(&mut chars, &mut out)?;
            }
            ')' => {
                depth = depth.checked_sub(1).ok_or("it has a ) without (")?;
                out.push(')');
            }
            c => out.push(c),
        }
    }
    if depth > 0 { Err("it has a ( without )") } else { Ok(out) }
}

/// `(?…` with the flags RE2 knows. `x` (which RE2 lacks) and `u`, `R` (which would change what bytes match) are refused.
fn group_flags(chars: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<(), &'static str> {
    if chars.next_if_eq(&'?').is_none() {
        return Ok(());
    }
    out.push('?');
    while let Some(&c) = chars.peek() {
        match c {
            'i' | 'm' | 's' | 'U' | '-' => {
                out.push(c);
                chars.next();
            }
            // `(?P<name>`, `(?<name>`, `(?:` and the end of the flags are the compiler's to judge.
            'P' | '<' | ':' | ')' => return Ok(()),
            _ => return Err("it has a group flag other than i, m, s, U"),
        }
    }
    Ok(())
}

/// What follows a backslash.
fn escape(
    chars: &mut Peekable<Chars<'_>>,
    in_class: bool,
    out: &mut String,
) -> Result<(), &'static str> {
    let c = chars.next().ok_or("it ends with a backslash")?;
    let (plain, inside) = match c {
        'd' => ("[0-9]", "0-9"),
        'D' => ("[^0-9]", "[^0-9]"),
        's' => (r"[\t\n\f\r ]", r"\t\n\f\r "),
        'S' => (r"[^\t\n\f\r ]", r"[^\t\n\f\r ]"),
        'w' => ("[0-9A-Za-z_]", "0-9A-Za-z_"),
        'W' => ("[^0-9A-Za-z_]", "[^0-9A-Za-z_]"),
        'b' if !in_class => (r"(?-u:\b)", ""),
        'B' if !in_class => (r"(?-u:\B)", ""),
        'C' if !in_class => (r"(?-u:[\x00-\xff])", ""),
        'Q' => {
            quoted(chars, out);
            return Ok(());
        }
        '0'..='7' => return octal(c, chars, out),
        'A' | 'z' if !in_class => {
            out.push('\\');
            out.push(c);
            return Ok(());
        }
        'a' | 'f' | 'n' | 'r' | 't' | 'v' | 'p' | 'P' | 'x' => {
            out.push('\\');
            out.push(c);
            return Ok(());
        }
        c if c.is_ascii_alphanumeric() => return Err("it has an escape that RE2 does not know"),
        c => {
            push_literal(c, out);
            return Ok(());
        }
    };
    out.push_str(if in_class { inside } else { plain });
    Ok(())
}

/// `\Q…\E`: everything between stands for itself; without `\E` everything to the end does.
fn quoted(chars: &mut Peekable<Chars<'_>>, out: &mut String) {
    while let Some(c) = chars.next() {
        if c == '\\' && chars.next_if_eq(&'E').is_some() {
            return;
        }
        push_literal(c, out);
    }
}

/// `\0`, `\012`, `\123`: up to three octal digits. A single digit but 0 would be a back-reference, which RE2 refuses.
fn octal(
    first: char,
    chars: &mut Peekable<Chars<'_>>,
    out: &mut String,
) -> Result<(), &'static str> {
    let mut value = first.to_digit(8).unwrap_or_default();
    let mut digits = 1;
    while digits < 3 {
        let Some(digit) = chars.peek().and_then(|c| c.to_digit(8)) else { break };
        value = value * 8 + digit;
        digits += 1;
        chars.next();
    }
    if digits == 1 && first != '0' {
        return Err("it has a back-reference");
    }
    let c = char::from_u32(value).ok_or("it has an octal escape out of range")?;
    push_literal(c, out);
    Ok(())
}

/// A bracketed class, whose `[` has been read. In RE2 it neither nests nor has set operations.
fn class(chars: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<(), &'static str> {
    out.push('[');
    if chars.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    if chars.next_if_eq(&']').is_some() {
        out.push_str(r"\]");
    }
    while let Some(c) = chars.next() {
        match c {
            ']' => {
                out.push(']');
                return Ok(());
            }
            '\\' => escape(chars, true, out)?,
            '[' if chars.peek() == Some(&':') => posix_class(chars, out),
            '-' => out.push('-'),
            c => push_literal(c, out),
        }
        // `--` would be a set operation; in RE2 the second dash ends or begins a range.
        if c == '-' && chars.next_if_eq(&'-').is_some() {
            out.push_str(r"\-");
        }
    }
    Err("it has a [ without ]")
}

/// `[:name:]` inside a class, whose `[` has been read; without the closing `:]` the bracket is a character.
fn posix_class(chars: &mut Peekable<Chars<'_>>, out: &mut String) {
    let rest: String = chars.clone().collect();
    let is_name = |name: &str| name.chars().all(|c| c == '^' || c.is_ascii_alphabetic());
    let name_end = rest.find(":]").filter(|end| rest.get(1..*end).is_some_and(is_name));
    match name_end {
        Some(end) if end > 1 => {
            out.push('[');
            for _ in 0..end + 2 {
                out.extend(chars.next());
            }
        }
        _ => out.push_str(r"\["),
    }
}

/// `{`: a repetition if it reads as one, else the character itself.
fn brace(chars: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<(), &'static str> {
    let rest: String = chars.clone().take_while(|c| *c != '}').collect();
    let closed = chars.clone().nth(rest.chars().count()) == Some('}');
    let (low, high) = rest.split_once(',').unwrap_or((&rest, ""));
    let number = |text: &str| {
        text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u32>().unwrap_or(u32::MAX))
    };
    let is_repetition = closed
        && !low.is_empty()
        && number(low).is_some()
        && (high.is_empty() || number(high).is_some());
    if !is_repetition {
        out.push_str(r"\{");
        return Ok(());
    }
    let too_many = |text: &str| !text.is_empty() && number(text).is_some_and(|n| n > REPEAT_MAX);
    if too_many(low) || too_many(high) {
        return Err("it repeats something more than 1000 times");
    }
    out.push('{');
    out.push_str(&rest);
    out.push('}');
    for _ in 0..=rest.chars().count() {
        chars.next();
    }
    Ok(())
}

/// A character that stands for itself, inside or outside of a class.
fn push_literal(c: char, out: &mut String) {
    if c.is_ascii_punctuation() && c != '<' && c != '>' {
        out.push('\\');
    }
    out.push(c);
}
