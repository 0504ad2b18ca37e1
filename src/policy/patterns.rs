//! Patterns of a set (`like`). Comparing one with a text takes as many steps as both are long, multiplied, and a decision compares
//! all that could apply: what they may cost together is bounded here.

use cedar_policy::pst::{Clause, Expr, PatternElem, Template};

/// Most wildcards of one pattern.
const MOST_WILDCARDS: usize = 8;
/// Most characters of all patterns of a set.
const MOST_CHARACTERS: usize = 16 * 1024;

/// What there was so far.
#[derive(Default)]
pub(super) struct Patterns {
    characters: usize,
}

impl Patterns {
    /// Adds those of a rule; one sentence where that is too much.
    pub(super) fn take(&mut self, rule: &Template) -> Result<(), String> {
        for Clause::When(condition) | Clause::Unless(condition) in rule.clauses() {
            self.look(condition)?;
        }
        Ok(())
    }

    fn look(&mut self, expression: &Expr) -> Result<(), String> {
        match expression {
            Expr::Like { expr, pattern } => {
                if pattern.iter().filter(|part| matches!(part, PatternElem::Wildcard)).count() > MOST_WILDCARDS {
                    return Err(format!("a pattern has at most {MOST_WILDCARDS} wildcards (`*`)"));
                }
                self.characters += pattern.len();
                if self.characters > MOST_CHARACTERS {
                    return Err(format!("all patterns (`like`) together have at most {MOST_CHARACTERS} characters"));
                }
                self.look(expr)
            }
            Expr::UnaryOp { expr, .. } | Expr::GetAttr { expr, .. } | Expr::HasAttr { expr, .. } => self.look(expr),
            Expr::BinaryOp { left, right, .. } => self.look(left).and_then(|()| self.look(right)),
            Expr::Is { expr, in_expr, .. } => {
                [Some(expr), in_expr.as_ref()].into_iter().flatten().try_for_each(|part| self.look(part))
            }
            Expr::IfThenElse { cond, then_expr, else_expr } => {
                [cond, then_expr, else_expr].into_iter().try_for_each(|part| self.look(part))
            }
            Expr::Set(parts) => parts.iter().try_for_each(|part| self.look(part)),
            Expr::Record(parts) => parts.values().try_for_each(|part| self.look(part)),
            _ => Ok(()),
        }
    }
}
