//! What was measured, as a table for people and as JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::Size;

/// One figure, and what it is held against.
pub struct Row {
    pub what: &'static str,
    pub unit: &'static str,
    /// Of each run.
    pub wabbit: Vec<f64>,
    /// The same without wabbit, and what that is.
    pub beside: Option<(&'static str, Vec<f64>)>,
    pub figure: Figure,
    pub target: Target,
}

/// What is made of the medians.
#[derive(Clone, Copy)]
pub enum Figure {
    /// Wabbit's over the other's.
    Ratio,
    /// Wabbit's less the other's.
    Difference,
    /// Wabbit's own.
    Alone,
}

/// What it is to be.
#[derive(Clone, Copy)]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// It is told beside another.
    None,
}

impl Row {
    fn value(&self) -> f64 {
        let beside = self.beside.as_ref().map_or(f64::NAN, |(_, values)| median(values));
        match self.figure {
            Figure::Ratio => median(&self.wabbit) / beside,
            Figure::Difference => median(&self.wabbit) - beside,
            Figure::Alone => median(&self.wabbit),
        }
    }

    fn verdict(&self) -> String {
        let (value, met, target) = match self.target {
            Target::AtLeast(least) => (self.value(), self.value() >= least, least),
            Target::AtMost(most) => (self.value(), self.value() <= most, most),
            Target::None => return String::new(),
        };
        if met { "met".into() } else { format!("missed by {}", short((value - target).abs())) }
    }
}

/// The value in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// In markdown.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from("| | unit | wabbit | beside it | figure | target | |\n|---|---|---|---|---|---|---|\n");
    for row in rows {
        let beside = row.beside.as_ref().map_or("".into(), |(name, values)| format!("{name}: {}", spread(values)));
        let target = match row.target {
            Target::AtLeast(least) => format!("≥ {least}"),
            Target::AtMost(most) => format!("≤ {most}"),
            Target::None => String::new(),
        };
        let figure = match row.figure {
            Figure::Ratio => format!("× {:.2}", row.value()),
            Figure::Difference => format!("{:+.1}", row.value()),
            Figure::Alone => short(row.value()),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {beside} | {figure} | {target} | {} |",
            row.what,
            row.unit,
            spread(&row.wabbit),
            row.verdict()
        );
    }
    text
}

/// Every value of every run.
pub fn json(size: &Size, rows: &[Row]) -> String {
    let row = |row: &Row| {
        json!({
            "what": row.what,
            "unit": row.unit,
            "wabbit": row.wabbit,
            "beside": row.beside.as_ref().map(|(name, values)| json!({ "what": name, "values": values })),
            "figure": row.value(),
        })
    };
    let rows: Vec<Value> = rows.iter().map(row).collect();
    let all = json!({ "runs": size.runs, "messages": size.messages, "rows": rows });
    format!("{}\n", serde_json::to_string_pretty(&all).unwrap())
}

/// The median, and between what the values lie.
fn spread(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    format!("{} ({}–{})", short(median(values)), short(least), short(most))
}

fn short(value: f64) -> String {
    match value.abs() {
        1000.0.. => format!("{:.1}k", value / 1000.0),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
