//! `blindsum-silo privacy-report`: what was spent, on which records, by which mechanism, and what is not covered, for the
//! data-protection officer.
//!
//! ```text
//! silo.toml ─► job (the mechanism) ─┬─► sections of named facts ─► text, JSON or HTML
//!              ledger (the debits) ─┘
//! ```
//!
//! Contract: reads the configuration, the job and the ledger; writes nothing, connects to nobody, opens no data. The three
//! forms are made from the same facts, so that they cannot differ. The facts are those that NIST SP 800-226 asks for, and
//! the checklist of Ponomareva et al. ("How to DP-fy ML", 2023, section 5.3).

mod facts;

use std::fmt::Write;

use blindsum_service::{Common, say};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use super::error::CommandError;
use crate::config::SiloConfig;
use facts::{Section, facts};

/// `blindsum-silo privacy-report`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    blindsum-silo privacy-report --config silo.toml\n  \
    blindsum-silo privacy-report --config silo.toml --format html > report.html\n\n\
    Safe to run while the silo runs: nothing is written or locked.")]
pub struct ReportArgs {
    #[command(flatten)]
    common: Common,
    /// How to print it
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    format: ReportFormat,
}

/// Form of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    /// For people, at most 100 columns
    Text,
    /// One object: section, fact, value
    Json,
    /// A page of its own, without scripts
    Html,
}

/// Runs the command.
///
/// # Errors
/// One sentence, and its exit code.
pub fn privacy_report(args: &ReportArgs) -> Result<(), CommandError> {
    let (config, _) = args.common.load::<SiloConfig>()?;
    let sections = facts(&config)?;
    say(match args.format {
        ReportFormat::Text => text(&sections),
        ReportFormat::Json => json(&sections).to_string(),
        ReportFormat::Html => html(&sections),
    });
    Ok(())
}

const WIDTH: usize = 100;
const LABEL: usize = 30;

fn text(sections: &[Section]) -> String {
    let mut out = String::new();
    for section in sections {
        let _ = writeln!(out, "{}", section.title);
        for fact in &section.facts {
            let mut label = fact.label;
            let mut line = String::new();
            for word in fact.said().split_whitespace() {
                if !line.is_empty() && LABEL + 3 + line.chars().count() + 1 + word.chars().count() > WIDTH {
                    let _ = writeln!(out, "  {label:LABEL$} {line}");
                    (label, line) = ("", String::new());
                }
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
            let _ = writeln!(out, "  {label:LABEL$} {line}");
        }
        out.push('\n');
    }
    out.trim_end().to_owned()
}

fn json(sections: &[Section]) -> Value {
    let facts = |section: &Section| -> Map<String, Value> {
        section.facts.iter().map(|fact| (fact.key.to_owned(), fact.value.clone())).collect()
    };
    sections.iter().map(|section| (section.key.to_owned(), Value::Object(facts(section)))).collect::<Map<_, _>>().into()
}

fn html(sections: &[Section]) -> String {
    let mut out = String::from(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>blindsum privacy report</title>\n\
         <style>body{font:16px/1.5 sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}\
         th{text-align:left;vertical-align:top;width:16rem;font-weight:600}td,th{padding:.2rem .6rem .2rem 0}\
         </style></head><body><h1>Privacy report</h1>\n",
    );
    for section in sections {
        let _ = writeln!(out, "<h2>{}</h2><table>", escaped(section.title));
        for fact in &section.facts {
            let _ = writeln!(out, "<tr><th>{}</th><td>{}</td></tr>", escaped(fact.label), escaped(&fact.said()));
        }
        out.push_str("</table>\n");
    }
    out + "</body></html>"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::facts::Fact;
    use super::*;

    #[test]
    fn the_three_forms_have_the_same_facts() {
        let long = "a word & <another> ".repeat(12);
        let facts = vec![Fact::number("epsilon", "ε", 5.25), Fact::text("note", "Note", long.trim())];
        let sections = [Section { key: "spent", title: "What was spent", facts }];
        let (text, json, html) = (text(&sections), json(&sections), html(&sections));
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert_eq!(text.split_whitespace().filter(|word| *word == "<another>").count(), 12);
        assert!(text.starts_with("What was spent\n  ε ") && text.contains("5.25"));
        assert_eq!(json["spent"]["epsilon"], 5.25);
        assert_eq!(json["spent"]["note"], long.trim());
        assert!(html.contains("<td>5.25</td>") && html.contains("&lt;another&gt;") && !html.contains("<another>"));
    }
}
