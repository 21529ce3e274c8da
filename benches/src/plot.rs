//! The figures as pictures: how far each row is from its mark, and how costs grow.
//!
//! SVG written by hand: lines, boxes and words. It is made of what the table is made of, and decides
//! nothing.

use std::fmt::Write as _;

use crate::round::{Unit, Work};
use crate::table::Line;

const ROW: f64 = 22.0;
const WORDS: f64 = 330.0;
const BARS: f64 = 380.0;
const STYLE: &str = "<style>text{font:12px sans-serif;fill:#444}.t{font-weight:bold}\
    .y{fill:#3a7d44}.n{fill:#c1662f}.a{stroke:#888;fill:none}.c{stroke:#2f6db0;fill:none;\
    stroke-width:2}.d{fill:#2f6db0}@media(prefers-color-scheme:dark){text{fill:#ccc}}</style>";

/// Each row with a mark as a bar; what reaches the line reaches its mark.
pub(crate) fn marks(lines: &[Line]) -> String {
    let rows: Vec<(&Line, f64)> =
        lines.iter().filter_map(|line| Some((line, line.reached_by()?))).collect();
    let height = ROW * (rows.len() as f64 + 2.0);
    let mut svg = begin(WORDS + BARS + 130.0, height);
    // From a tenth of the mark to ten times as good.
    let place = |times: f64| WORDS + BARS * (times.clamp(0.1, 10.0).log10() + 1.0) / 2.0;
    for (number, (line, times)) in rows.iter().enumerate() {
        let y = ROW * (number as f64 + 1.0);
        let (from, to) = (place(1.0).min(place(*times)), place(1.0).max(place(*times)));
        let class = if *times >= 1.0 { "y" } else { "n" };
        words(&mut svg, 4.0, y + 15.0, "", line.figure());
        let _ = write!(
            svg,
            r#"<rect class="{class}" x="{from:.1}" y="{:.1}" width="{:.1}" height="14"/>"#,
            y + 4.0,
            (to - from).max(1.0)
        );
        words(&mut svg, WORDS + BARS + 8.0, y + 15.0, "", &line.said());
    }
    let mark = place(1.0);
    words(&mut svg, mark - 14.0, 14.0, "t", "mark");
    let _ = write!(svg, r#"<path class="a" d="M{mark:.1} 20V{height:.1}"/>"#);
    svg.push_str("</svg>\n");
    svg
}

const PANEL: (f64, f64) = (280.0, 190.0);
const ACROSS: usize = 3;

/// Each work whose sides are sizes as a curve: the time of one by size, both axes logarithmic.
pub(crate) fn growth(works: &[Work]) -> Option<String> {
    let curves: Vec<(&Work, Vec<(f64, f64)>)> = works
        .iter()
        .filter(|work| work.unit == Unit::Microseconds && work.name.starts_with("growth: "))
        .map(|work| (work, points(work)))
        .collect();
    if curves.is_empty() {
        return None;
    }
    let rows = curves.len().div_ceil(ACROSS) as f64;
    let mut svg = begin(PANEL.0 * ACROSS as f64, PANEL.1 * rows);
    for (number, (work, points)) in curves.iter().enumerate() {
        let (column, row) = (number % ACROSS, number / ACROSS);
        panel(&mut svg, (PANEL.0 * column as f64, PANEL.1 * row as f64), work.name, points);
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

fn points(work: &Work) -> Vec<(f64, f64)> {
    let sides = work.sides.keys();
    let mut points: Vec<(f64, f64)> =
        sides.filter_map(|side| Some((side.parse().ok()?, work.figure(side)?))).collect();
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    points
}

fn panel(svg: &mut String, (left, top): (f64, f64), name: &str, points: &[(f64, f64)]) {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
    let most = points.iter().map(|point| point.1).fold(first.1 * 10.0, f64::max);
    let least = points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min) / 2.0;
    let across = |size: f64| left + 30.0 + 220.0 * share(size, first.0, last.0);
    let down = |time: f64| top + 155.0 - 115.0 * share(time, least, most);
    words(svg, left + 12.0, top + 18.0, "t", name.trim_start_matches("growth: "));
    let _ = write!(svg, r#"<path class="a" d="M{:.1} {:.1}h240"/>"#, left + 20.0, top + 158.0);
    let mut way = String::new();
    for (number, (size, time)) in points.iter().enumerate() {
        let (x, y) = (across(*size), down(*time));
        let _ = write!(way, "{}{x:.1} {y:.1}", if number == 0 { "M" } else { "L" });
        let _ = write!(svg, r#"<circle class="d" cx="{x:.1}" cy="{y:.1}" r="3"/>"#);
        words(svg, x - 10.0, y - 8.0, "", &shown(*time));
        words(svg, x - 10.0, top + 174.0, "", &size.to_string());
    }
    let _ = write!(svg, r#"<path class="c" d="{way}"/>"#);
}

/// Where a number lies between two others, by their logarithms.
fn share(number: f64, least: f64, most: f64) -> f64 {
    if most > least { (number / least).ln() / (most / least).ln() } else { 0.0 }
}

fn shown(microseconds: f64) -> String {
    match microseconds {
        long if long >= 1e4 => format!("{:.0} ms", long / 1e3),
        short if short >= 10.0 => format!("{short:.0} µs"),
        tiny => format!("{tiny:.1} µs"),
    }
}

fn begin(width: f64, height: f64) -> String {
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}">{STYLE}"#
    )
}

fn words(svg: &mut String, x: f64, y: f64, class: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = write!(svg, r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{words}</text>"#);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_curve_goes_through_its_sizes_in_order() {
        let sides = [("1", vec![10.0]), ("1000", vec![20.0]), ("64", vec![12.0])];
        let cost = BTreeMap::new();
        let unit = Unit::Microseconds;
        let work = Work { name: "growth: a < b", unit, sides: sides.into(), cost };
        assert_eq!(points(&work), [(1.0, 10.0), (64.0, 12.0), (1000.0, 20.0)]);
        let svg = growth(&[work]).expect("a curve");
        assert!(svg.contains("a &lt; b") && svg.matches("<circle").count() == 3);
        assert_eq!(growth(&[]), None);
    }
}
