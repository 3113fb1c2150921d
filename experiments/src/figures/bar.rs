//! The bar that a figure must meet: `<= 9`, `< 9`, `>= 3`, `> 3`, `= 0`, or `-` where there is none.

use std::fmt;

use serde::Deserialize;

type Holds = fn(&f64, &f64) -> bool;

/// A comparison with a number, or none.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Bar {
    text: String,
    bound: Option<(Holds, f64)>,
}

impl Bar {
    /// Whether the figure meets it; `None` where there is no bar.
    pub fn is_met(&self, figure: f64) -> Option<bool> {
        self.bound.map(|(holds, bound)| holds(&figure, &bound))
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Bar {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "-" {
            return Ok(Self { text, bound: None });
        }
        let parsed = text.split_once(' ').and_then(|(sign, number)| {
            let holds: Holds = match sign {
                "<=" => f64::le,
                "<" => f64::lt,
                ">=" => f64::ge,
                ">" => f64::gt,
                "=" => f64::eq,
                _ => return None,
            };
            Some((holds, number.parse().ok().filter(|bound: &f64| bound.is_finite())?))
        });
        match parsed {
            Some(bound) => Ok(Self { text, bound: Some(bound) }),
            None => Err(format!("the bar {text:?} is none of \"<= 9\", \"< 9\", \">= 3\", \"> 3\", \"= 0\" and \"-\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(bar: &str, figure: f64) -> Option<bool> {
        Bar::try_from(bar.to_owned()).unwrap().is_met(figure)
    }

    #[test]
    fn a_bar_is_met_at_its_own_number_only_where_it_says_so() {
        for (bar, below, at, above) in [
            ("<= 9", true, true, false),
            ("< 9", true, false, false),
            (">= 9", false, true, true),
            ("> 9", false, false, true),
            ("= 9", false, true, false),
        ] {
            let found = [met(bar, 8.5), met(bar, 9.0), met(bar, 9.5)];
            assert_eq!(found, [Some(below), Some(at), Some(above)], "{bar}");
        }
        assert_eq!(met("-", 9.0), None);
        assert_eq!(met(">= -1.5", -1.0), Some(true));
    }

    #[test]
    fn what_is_no_bar_is_refused() {
        for bar in ["", "9", "<=9", "=< 9", "<= nine", "<= NaN", "<= inf", "== 9", "<= 9 s"] {
            assert!(Bar::try_from(bar.to_owned()).is_err(), "{bar}");
        }
    }
}
