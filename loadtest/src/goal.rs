//! Goals: `PATH OP NUMBER` over the report's JSON, as in `delivery_ms.p99<=1.2`.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// How the two sides are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
}

/// Longest first, so that `<=` is not read as `<`.
const OPERATORS: [(&str, Comparison); 5] = [
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("==", Comparison::Equal),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

/// One goal.
#[derive(Clone, PartialEq, Debug)]
pub struct Goal {
    path: String,
    comparison: Comparison,
    bound: f64,
}

/// How a goal ended.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Outcome {
    /// It holds; with the value.
    Held(f64),
    /// It does not; with the value.
    Missed(f64),
    /// The report has no number there: as bad as missed.
    Absent,
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |problem: &str| {
            format!("'{text}': {problem}; write it like delivery_ms.p99<=1.2 (<=, <, >=, >, ==)")
        };
        let start = text.find(['<', '>', '=']).ok_or_else(|| wrong("no comparison"))?;
        let (path, rest) = text.split_at(start);
        let (operator, comparison) = OPERATORS
            .iter()
            .find(|(operator, _)| rest.starts_with(operator))
            .ok_or_else(|| wrong("unknown comparison"))?;
        let path = path.trim();
        let named = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        if !path.split('.').all(named) {
            return Err(wrong("the left side is no path into the report"));
        }
        let bound: f64 = rest[operator.len()..]
            .trim()
            .parse()
            .map_err(|_| wrong("the right side is no number"))?;
        if !bound.is_finite() {
            return Err(wrong("the right side is no finite number"));
        }
        Ok(Self { path: path.to_owned(), comparison: *comparison, bound })
    }
}

impl Goal {
    /// Judges the goal by a report.
    pub fn judge(&self, report: &Value) -> Outcome {
        let found = self.path.split('.').try_fold(report, |value, part| match value {
            Value::Array(items) => part.parse::<usize>().ok().and_then(|i| items.get(i)),
            other => other.get(part),
        });
        let Some(value) = found.and_then(number) else {
            return Outcome::Absent;
        };
        let holds = match self.comparison {
            Comparison::Less => value < self.bound,
            Comparison::LessOrEqual => value <= self.bound,
            Comparison::Greater => value > self.bound,
            Comparison::GreaterOrEqual => value >= self.bound,
            Comparison::Equal => value == self.bound,
        };
        if holds { Outcome::Held(value) } else { Outcome::Missed(value) }
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(yes) => Some(f64::from(u8::from(*yes))),
        other => other.as_f64(),
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = OPERATORS
            .iter()
            .find(|(_, comparison)| *comparison == self.comparison)
            .map_or("?", |(operator, _)| operator);
        write!(f, "{}{}{}", self.path, operator, self.bound)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use serde_json::json;

    #[test]
    fn goals_are_read_and_judged() {
        let report =
            json!({"delivery_ms": {"p99": 1.2}, "lost": 0, "valid": true, "steps": [{"rate": 5}]});
        for (text, want) in [
            ("delivery_ms.p99<=1.2", Outcome::Held(1.2)),
            ("delivery_ms.p99<1.2", Outcome::Missed(1.2)),
            (" delivery_ms.p99 >= 1.2 ", Outcome::Held(1.2)),
            ("delivery_ms.p99>1.2", Outcome::Missed(1.2)),
            ("lost==0", Outcome::Held(0.0)),
            ("lost>=1", Outcome::Missed(0.0)),
            ("valid==1", Outcome::Held(1.0)),
            ("steps.0.rate==5", Outcome::Held(5.0)),
            ("delivery_ms.p98<=1", Outcome::Absent),
            ("nothing.there<=1", Outcome::Absent),
            ("delivery_ms<=1", Outcome::Absent),
        ] {
            let goal: Goal = text.parse().unwrap();
            assert_eq!(goal.judge(&report), want, "{text}");
        }
    }

    #[test]
    fn what_is_no_goal_is_refused_with_an_example() {
        for text in ["", "p99", "p99=1", "<=1", "a..b<1", "a b<1", "a<=x", "a<=", "a<=inf", "a!=1"]
        {
            let error = text.parse::<Goal>().unwrap_err();
            assert!(error.contains("delivery_ms.p99<=1.2"), "{text}: {error}");
        }
    }

    #[test]
    fn a_goal_prints_as_it_was_written() {
        for text in ["lost==0", "delivery_ms.p99<=1.5", "a>2", "b<3", "c>=4"] {
            assert_eq!(text.parse::<Goal>().unwrap().to_string(), text);
        }
    }
}
