//! Arguments of a call, as rules read them. A rule names an argument and the type under which it reads it:
//! `context.text.getTag("path")`. Only what rules name is read, and only when one of them could apply. An argument of another
//! type is refused rather than passed by: a rule that did not see it would not have applied.
//!
//! A name is a member of `arguments`; one that begins with `/` is a JSON Pointer (RFC 6901) to a member deeper in.

use cedar_policy::RestrictedExpression as Value;
use cedar_policy::pst::{BinaryOp, Clause, Expr, Literal, Template, Var};

use crate::json;
use crate::protocol::disguise::same_but_for_case;

/// Longest text that is judged, in bytes as it is written: rules may compare it with patterns.
const LONGEST: usize = 4096;
/// Longest list that is judged, likewise.
const LONGEST_LIST: usize = 64 * 1024;

/// The type under which a rule reads an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum View {
    /// A string.
    Text,
    /// A whole number, written without point and exponent, of 64 bits with a sign.
    Number,
    /// `true` or `false`.
    Flag,
    /// An array of strings.
    List,
}

impl View {
    const ALL: [Self; 4] = [Self::Text, Self::Number, Self::Flag, Self::List];

    /// Its name in the context.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Flag => "flag",
            Self::List => "list",
        }
    }

    pub(super) fn entity(self) -> &'static str {
        match self {
            Self::Text => "Text",
            Self::Number => "Number",
            Self::Flag => "Flag",
            Self::List => "List",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|view| view.name() == name)
    }

    fn wants(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Number => "a whole number of at most 64 bits, written without point and exponent",
            Self::Flag => "true or false",
            Self::List => "an array of strings",
        }
    }
}

/// An argument that a rule reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Read {
    /// As what.
    pub view: View,
    /// Its name, or a JSON Pointer.
    pub path: Box<str>,
}

/// An argument that was given.
#[derive(Debug, Clone)]
pub(super) struct Argument {
    pub(super) view: View,
    path: Box<str>,
    value: Given,
}

#[derive(Debug, Clone)]
enum Given {
    Text(String),
    Number(i64),
    Flag(bool),
    List(Vec<String>),
}

impl Argument {
    pub(super) fn tag(&self) -> (String, Value) {
        let value = match &self.value {
            Given::Text(text) => Value::new_string(text.clone()),
            Given::Number(number) => Value::new_long(*number),
            Given::Flag(flag) => Value::new_bool(*flag),
            Given::List(list) => Value::new_set(list.iter().cloned().map(Value::new_string)),
        };
        (self.path.as_ref().to_owned(), value)
    }
}

impl Read {
    /// The argument in a call's `arguments`, checked JSON; none where it is not given, or null.
    ///
    /// # Errors
    ///
    /// In one sentence, for one that the rule cannot read.
    pub(super) fn take(&self, arguments: &[u8]) -> Result<Option<Argument>, String> {
        let Some(value) = self.find(arguments)?.filter(|value| *value != b"null") else { return Ok(None) };
        let value = match self.view {
            View::Text if value.len() > LONGEST => return Err(self.too_long(LONGEST)),
            View::List if value.len() > LONGEST_LIST => return Err(self.too_long(LONGEST_LIST)),
            View::Text => json::text(value).map(|text| Given::Text(text.into_owned())),
            View::Number => whole(value).map(Given::Number),
            View::Flag => match value {
                b"true" => Some(Given::Flag(true)),
                b"false" => Some(Given::Flag(false)),
                _ => None,
            },
            View::List => list(value).map(Given::List),
        };
        let value = value.ok_or_else(|| format!("the argument `{}` must be {}", self.path, self.view.wants()))?;
        Ok(Some(Argument { view: self.view, path: self.path.clone(), value }))
    }

    fn too_long(&self, most: usize) -> String {
        format!("the argument `{}` must be at most {most} bytes, as a rule reads it", self.path)
    }

    fn find<'a>(&self, arguments: &'a [u8]) -> Result<Option<&'a [u8]>, String> {
        let Some(pointer) = self.path.strip_prefix('/') else { return Self::member(arguments, &self.path) };
        let mut value = arguments;
        for step in pointer.split('/') {
            match value.first() {
                Some(b'{') => {}
                Some(b'n') => return Ok(None),
                _ => return Err(format!("the argument `{}` must be inside an object", self.path)),
            }
            let step = step.replace("~1", "/").replace("~0", "~");
            match Self::member(value, &step)? {
                Some(inner) => value = inner,
                None => return Ok(None),
            }
        }
        Ok(Some(value))
    }

    /// A member by its name. Another one that differs from it in case alone may be what the server reads: that is refused.
    fn member<'a>(object: &'a [u8], name: &str) -> Result<Option<&'a [u8]>, String> {
        let mut found = None;
        for (written, value) in json::members(object) {
            if json::is_name(written, name) {
                found = Some(value);
            } else {
                let quoted = [b"\"", written, b"\""].concat();
                let other = json::text(&quoted).unwrap_or_default();
                if same_but_for_case(&other, name) {
                    return Err(format!("the argument `{other}` must be written `{name}`"));
                }
            }
        }
        Ok(found)
    }
}

fn whole(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

fn list(value: &[u8]) -> Option<Vec<String>> {
    if value.first() != Some(&b'[') {
        return None;
    }
    json::elements(value).map(|element| json::text(element).map(std::borrow::Cow::into_owned)).collect()
}

/// The arguments that a rule reads; one sentence where it reads them in a way that cannot be known beforehand.
pub(super) fn reads(rule: &Template) -> Result<Vec<Read>, String> {
    let mut found = Vec::new();
    for Clause::When(condition) | Clause::Unless(condition) in rule.clauses() {
        look(condition, &mut found)?;
    }
    found.dedup();
    Ok(found)
}

/// Whether an expression reads arguments; one that cannot be followed counts as one that does.
pub(super) fn is_late(expression: &Expr) -> bool {
    let mut found = Vec::new();
    look(expression, &mut found).is_err() || !found.is_empty()
}

fn view_of(expression: &Expr) -> Option<View> {
    match expression {
        Expr::GetAttr { expr, attr } if matches!(**expr, Expr::Var(Var::Context)) => View::of(attr),
        _ => None,
    }
}

fn look(expression: &Expr, found: &mut Vec<Read>) -> Result<(), String> {
    if let Expr::BinaryOp { op: op @ (BinaryOp::GetTag | BinaryOp::HasTag), left, right } = expression
        && let Some(view) = view_of(left)
    {
        if let Expr::Literal(Literal::String(path)) = &**right {
            let read = Read { view, path: path.as_str().into() };
            if !found.contains(&read) {
                found.push(read);
            }
            return Ok(());
        }
        let call = if *op == BinaryOp::GetTag { "getTag" } else { "hasTag" };
        return Err(format!("name the argument as a text: `context.{}.{call}(\"name\")`", view.name()));
    }
    if let Some(view) = view_of(expression) {
        let name = view.name();
        return Err(format!(
            "read an argument as `context.{name}.getTag(\"name\")`, behind `context.{name}.hasTag(\"name\")`"
        ));
    }
    match expression {
        Expr::GetAttr { expr, .. } if matches!(**expr, Expr::Var(Var::Context)) => Ok(()),
        Expr::Var(Var::Context) => {
            Err("of the context, use `client`, `credential`, `text`, `number`, `flag` and `list`, one by one"
                .to_owned())
        }
        Expr::UnaryOp { expr, .. }
        | Expr::GetAttr { expr, .. }
        | Expr::HasAttr { expr, .. }
        | Expr::Like { expr, .. } => look(expr, found),
        Expr::BinaryOp { left, right, .. } => {
            look(left, found)?;
            look(right, found)
        }
        Expr::Is { expr, in_expr, .. } => {
            look(expr, found)?;
            in_expr.as_ref().map_or(Ok(()), |inner| look(inner, found))
        }
        Expr::IfThenElse { cond, then_expr, else_expr } => {
            [cond, then_expr, else_expr].into_iter().try_for_each(|part| look(part, found))
        }
        Expr::Set(parts) => parts.iter().try_for_each(|part| look(part, found)),
        Expr::Record(parts) => parts.values().try_for_each(|part| look(part, found)),
        Expr::Literal(_) | Expr::Var(_) | Expr::Slot(_) | Expr::Unknown { .. } => Ok(()),
        _ => Err("this kind of expression is not known here".to_owned()),
    }
}
