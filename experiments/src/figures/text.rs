//! Tables as text: columns aligned for a terminal, or Markdown.

use clap::ValueEnum;

/// How a table is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Style {
    /// Aligned columns.
    Text,
    /// A Markdown table.
    Markdown,
}

/// A table with a line for each of `rows`; all have as many cells as there are `heads`.
pub fn table(format: Style, heads: &[&str], rows: &[Vec<String>]) -> String {
    let heads: Vec<String> = heads.iter().map(|&head| head.to_owned()).collect();
    if format == Style::Markdown {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        return line(&heads)
            + &format!("{}|\n", "|---".repeat(heads.len()))
            + &rows.iter().map(|row| line(row)).collect::<String>();
    }
    let all = || std::iter::once(&heads).chain(rows);
    let widths: Vec<usize> =
        (0..heads.len()).map(|i| all().map(|row| row[i].chars().count()).max().unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        format!("{}\n", cells.trim_end())
    };
    all().map(line).collect()
}

/// A figure with at most three digits behind the point.
pub fn figure(value: f64) -> String {
    ((value * 1e3).round() / 1e3).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_characters_and_markdown_keeps_its_bars() {
        let rows = [vec!["größe".into(), "1".into()], vec!["a|b".into(), "".into()]];
        assert_eq!(table(Style::Text, &["x", "what"], &rows), "x      what\ngröße  1\na|b\n");
        let markdown = "| x | what |\n|---|---|\n| größe | 1 |\n| a\\|b |  |\n";
        assert_eq!(table(Style::Markdown, &["x", "what"], &rows), markdown);
    }

    #[test]
    fn figures_are_short() {
        assert_eq!([12.0, 0.12345, -1.5, 1e6].map(figure), ["12", "0.123", "-1.5", "1000000"]);
    }
}
